"""Batches in order from several processes, and how long the training waited for them.

PyTorch's DataLoader brings the batches in the order of their keys whichever process makes them, hands on what a worker raises,
and notices a worker that was killed within seconds: a dead worker ends the training with an error and never hangs it.
"""

import os
import signal
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from itertools import tee
from typing import Any

import psutil
import torch
from torch.utils.data import DataLoader

from trainers.data.batches import Batch, BatchKey, BatchMaker, LoadingError

_PATIENCE = 600  # seconds without a batch, after which the training ends: a disk that is gone blocks workers without an error
_START_METHOD = (
    "fork" if sys.platform == "linux" else "spawn"
)  # forked workers share the cases in memory; only Linux forks safely


class BatchStream:
    """Batches of the keys, one after the other.

    Args:
        maker: makes a batch of a key.
        keys: of all batches to come.
        workers: processes; 0 makes each batch when it is asked for.
        pin: copy batches to page-locked memory, for CUDA.

    Attributes:
        waited: seconds spent waiting so far.
    """

    def __init__(self, maker: BatchMaker, keys: Iterable[BatchKey], workers: int, pin: bool = False):
        self.waited = 0.0
        self._maker = maker
        self._workers = workers
        self._expected, to_make = tee(keys)
        self._batches: Iterator[Batch] | None = (
            _load(maker, to_make, workers, pin) if workers else map(maker.__getitem__, to_make)
        )

    def __iter__(self) -> "BatchStream":
        return self

    def __next__(self) -> Batch:
        """The next batch.

        Raises:
            LoadingError: it could not be made, or a worker died.
            StopIteration: there is no further key, or the stream was closed.
        """
        if self._batches is None:
            raise StopIteration
        start = time.perf_counter()
        key = next(self._expected)
        try:
            return next(self._batches)
        except LoadingError:
            raise
        except RuntimeError as error:  # of the DataLoader: a worker is gone
            raise LoadingError(self._obituary(key, error)) from error
        finally:
            self.waited += time.perf_counter() - start

    def explain(self, error: RuntimeError) -> None:
        """Raise `LoadingError` where an error says that a worker is gone: PyTorch's handler of that signal raises it wherever the main
        process happens to be."""
        if self._workers and not isinstance(error, LoadingError) and "DataLoader worker" in str(error):
            raise LoadingError(self._obituary(next(self._expected, None), error)) from error

    def close(self) -> None:
        """End the workers.

        Letting the loader's iterator go is not enough: the traceback of an error may still hold it, and Python would then wait
        for the workers forever when it ends, as they take no SIGTERM.
        """
        batches, self._batches = self._batches, None
        workers = list(getattr(batches, "_workers", ()))
        shut_down = getattr(batches, "_shutdown_workers", None)
        if shut_down is not None:
            shut_down()
        for worker in workers:
            if worker.is_alive():  # it is stuck
                worker.kill()

    def _obituary(self, key: BatchKey | None, error: Exception) -> str:
        awaited = "no batch" if key is None else f"{key} (cases {', '.join(self._maker.cases_of(key))})"
        memory = psutil.virtual_memory()
        codes = [process.exitcode for process in getattr(self._batches, "_workers", ()) if process.exitcode]
        return (
            f"a process that loads data died or hangs; {awaited} was awaited: {error}. "
            f"Exit codes: {', '.join(map(str, codes)) or 'unknown'} (-9: killed, often for want of memory). "
            f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB of memory are free, this process uses "
            f"{psutil.Process().memory_info().rss / 2**30:.1f}. If memory is short, use fewer than {self._workers} --workers "
            "(0 loads in the main process)"
        )


def choose_workers(device: torch.device) -> int:
    """Loading processes: one for every two cores of a CPU that trains itself, up to 12 beside a GPU."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(4, cores // 2)) if device.type == "cpu" else max(1, min(12, cores - 1))


def _load(maker: BatchMaker, keys: Iterator[BatchKey], workers: int, pin: bool) -> Iterator[Batch]:
    with warnings.catch_warnings():
        # Python warns of forking beside other threads. The workers run NumPy and single-threaded PyTorch, which need none.
        warnings.simplefilter("ignore", DeprecationWarning)
        # PyTorch warns of more workers than cores, which the user has asked for.
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        loader: DataLoader[Any] = DataLoader(
            maker,  # type: ignore[arg-type]  # it maps keys, not integers, to batches
            batch_size=None,
            sampler=keys,
            num_workers=workers,
            collate_fn=_unchanged,  # a batch is one item here
            pin_memory=pin,
            worker_init_fn=_ignore_signals,
            multiprocessing_context=_START_METHOD,
            generator=torch.Generator(),  # its own: the global one belongs to the network
            prefetch_factor=2,
            timeout=_PATIENCE,
        )
        return iter(loader)


def _unchanged(batch: Any) -> Any:
    return batch


def _ignore_signals(worker: int) -> None:
    """Signals to the whole process group are for the main process, which ends its workers after its last step."""
    del worker
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
