"""Load batches in order with several processes, and measure how long the training waits for them.

PyTorch's DataLoader returns the batches in the order of their keys, passes on the exceptions of workers and notices within seconds
that a worker was killed. A dead worker therefore ends the training with an error and never blocks it.
"""

import os
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import tee
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from trainers.augmentation.on_device import Pending
from trainers.data.batches import Batch, BatchKey, BatchMaker, LoadingError

_PATIENCE = 600  # seconds to wait for a batch: workers block without an error when a disk disappears
_SHARED_MEMORY = Path("/dev/shm")
_PREFETCHED = 2  # batches that each worker makes in advance
# Forked workers share the cases in memory, but only Linux forks safely.
_START_METHOD = "fork" if sys.platform == "linux" else "spawn"


class BatchStream:
    """Iterator over batches.

    Args:
        maker: maker of a batch from its key.
        keys: keys of all batches to come.
        workers: number of loading processes; 0 makes each batch in the main process when it is needed.
        pin: copy batches to page-locked memory, for CUDA.

    Attributes:
        waited: seconds spent waiting for batches so far.
    """

    def __init__(self, maker: BatchMaker, keys: Iterable[BatchKey], workers: int, pin: bool = False):
        self.waited = 0.0
        self._maker = maker
        self._workers = workers
        self._expected, to_make = tee(keys)
        self._batches: Iterator[Any] | None = _load(maker, to_make, workers, pin) if workers else map(maker.__getitem__, to_make)

    def __iter__(self) -> "BatchStream":
        return self

    def __next__(self) -> Batch:
        """Return the next batch.

        Raises:
            LoadingError: the batch cannot be made, or a worker died.
            StopIteration: no key is left, or the stream was closed.
        """
        if self._batches is None:
            raise StopIteration
        start = time.perf_counter()
        key = next(self._expected)
        try:
            made = next(self._batches)
            return made.batch() if isinstance(made, _Packed) else made
        except LoadingError:
            raise
        except RuntimeError as error:  # raised by the DataLoader when a worker died
            raise LoadingError(self._describe_death(key, error)) from error
        finally:
            self.waited += time.perf_counter() - start

    def explain(self, error: RuntimeError) -> None:
        """Raise `LoadingError` if an error says that a worker died. PyTorch raises that error from a signal handler, wherever the
        main process happens to be."""
        if self._workers and not isinstance(error, LoadingError) and "DataLoader worker" in str(error):
            raise LoadingError(self._describe_death(next(self._expected, None), error)) from error

    def close(self) -> None:
        """Stop the workers.

        Dropping the loader's iterator is not enough: the traceback of an error may still hold it, and since the workers ignore
        SIGTERM, Python would wait for them forever at exit.
        """
        batches, self._batches = self._batches, None
        workers = list(getattr(batches, "_workers", ()))
        shut_down = getattr(batches, "_shutdown_workers", None)
        if shut_down is not None:
            shut_down()
        for worker in workers:
            if worker.is_alive():  # the worker is stuck
                worker.kill()

    def _describe_death(self, key: BatchKey | None, error: Exception) -> str:
        awaited = "no batch" if key is None else f"{key} (cases {', '.join(self._maker.cases_of(key))})"
        memory = psutil.virtual_memory()
        codes = [process.exitcode for process in getattr(self._batches, "_workers", ()) if process.exitcode]
        return (
            f"a loading process died or hangs while waiting for {awaited}: {error}. "
            f"Exit codes: {', '.join(map(str, codes)) or 'unknown'} (-9: killed, often because memory ran out; -7: /dev/shm is full). "
            f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB of memory are available; this process uses "
            f"{psutil.Process().memory_info().rss / 2**30:.1f} GiB. If memory is short, use fewer than {self._workers} --workers "
            "(0 loads in the main process)"
        )


def choose_workers(device: torch.device) -> int:
    """Return the number of loading processes: one per two cores, at most 4, to train on a CPU; up to 12 with a GPU."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(4, cores // 2)) if device.type == "cpu" else max(1, min(12, cores - 1))


def _load(maker: BatchMaker, keys: Iterator[BatchKey], workers: int, pin: bool) -> Iterator["_Packed"]:
    with warnings.catch_warnings():
        # Python warns about forking a multi-threaded process. The workers run NumPy and single-threaded PyTorch, which is safe.
        warnings.simplefilter("ignore", DeprecationWarning)
        # PyTorch warns about more workers than cores, which the user requested.
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        loader: DataLoader[Any] = DataLoader(
            maker,  # type: ignore[arg-type]  # it maps keys, not integers, to batches
            batch_size=None,
            sampler=keys,
            num_workers=workers,
            collate_fn=partial(_packed, workers=workers),  # an item is already a batch
            pin_memory=pin,
            worker_init_fn=_ignore_signals,
            multiprocessing_context=_START_METHOD,
            generator=torch.Generator(),  # leaves the global generator to the network
            prefetch_factor=_PREFETCHED,
            timeout=_PATIENCE,
        )
        return iter(loader)


@dataclass(frozen=True)
class _Packed:
    """A batch on its way between processes. Tensors travel in shared memory, arrays through a pipe, which copies them twice."""

    images: Any  # array or tensor (B, C, Z, Y, X) float32
    labels: Any  # array or tensor (B, Z, Y, X) int16
    cases: tuple[str, ...]
    pending: Pending | None

    def pin_memory(self) -> "_Packed":
        """Return the batch in page-locked memory, from which a GPU can copy asynchronously; called by the loader."""
        images, labels = (torch.as_tensor(one).pin_memory() for one in (self.images, self.labels))
        return _Packed(images, labels, self.cases, self.pending)

    def batch(self) -> Batch:
        """Return the batch with arrays that use the same memory."""
        images, labels = (one.numpy() if isinstance(one, Tensor) else one for one in (self.images, self.labels))
        return Batch(images, labels, self.cases, self.pending)


def _packed(batch: Batch, workers: int) -> _Packed:
    """Pack a batch for shared memory where there is room for all batches on their way; containers often have 64 MiB of it."""
    images, labels = batch.images, batch.labels
    needed = (images.nbytes + labels.nbytes) * (workers * _PREFETCHED + 2)
    if sys.platform == "linux" and _SHARED_MEMORY.is_dir() and shutil.disk_usage(_SHARED_MEMORY).free > needed:
        return _Packed(torch.from_numpy(images), torch.from_numpy(labels), batch.cases, batch.pending)
    return _Packed(images, labels, batch.cases, batch.pending)


def _ignore_signals(worker: int) -> None:
    """Ignore signals sent to the process group; the main process handles them and stops its workers after its last step."""
    del worker
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
