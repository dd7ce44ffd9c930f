"""Counts of what a GPU would do, and the memory that is alive on it."""

import sys
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).parents[3]
PRODUCT = tuple(str(ROOT / name) for name in ("se_unet", "planners", "preprocessing", "trainers", "inference", "configs"))


class Memory:
    """Storages that are alive on the device.

    Attributes:
        now, peak: bytes alive now, and the most that were alive since `restart`.
        limit: bytes above which an allocation fails; None for no limit.
        allocations: number of allocations since `restart`.
        fails: told the number of an allocation, from 0, returns whether it fails; None for none.
    """

    def __init__(self) -> None:
        self.now = self.peak = self.allocations = 0
        self.limit: int | None = None
        self.fails: Callable[[int], bool] | None = None
        self._alive: dict[int, weakref.ref[Any]] = {}

    def restart(self) -> None:
        """Forget the peak, the number of allocations and all limits."""
        self.peak, self.allocations, self.limit, self.fails = self.now, 0, None, None

    def hold(self, tensor: Tensor) -> None:
        """Count the storage of a CPU tensor that stands for one of the device, until it is released.

        Raises:
            torch.OutOfMemoryError: the limit is exceeded, or this allocation is to fail.
        """
        storage = tensor.untyped_storage()
        address, size = storage.data_ptr(), storage.nbytes()
        if size == 0 or address in self._alive:
            return
        number, self.allocations = self.allocations, self.allocations + 1
        if (self.limit is not None and self.now + size > self.limit) or (self.fails is not None and self.fails(number)):
            raise torch.OutOfMemoryError(
                f"CUDA out of memory. Tried to allocate {size / 2**20:.2f} MiB. The stand-in GPU holds {self.now / 2**20:.2f} MiB"
            )

        def release(_: Any) -> None:
            del self._alive[address]
            self.now -= size

        self._alive[address] = weakref.ref(storage, release)
        self.now += size
        self.peak = max(self.peak, self.now)


class Ledger:
    """What happened on the device since the last `restart`.

    Attributes:
        launches: number of operators that start kernels.
        operators: number of calls of each operator.
        waits: how often the host waited for the device, by the reason and the line of product code.
        copies: asynchronous copies to the device.
        memory: memory of the device.
    """

    def __init__(self) -> None:
        self.memory = Memory()
        self.restart()

    def restart(self) -> None:
        """Count from zero."""
        self.launches = self.copies = 0
        self.operators: Counter[str] = Counter()
        self.waits: Counter[tuple[str, str]] = Counter()
        self.memory.restart()

    def wait(self, reason: str) -> None:
        """Note that the host waits for the device."""
        self.waits[reason, _line_of_product()] += 1

    @property
    def number_of_waits(self) -> int:
        """Number of times that the host waited."""
        return sum(self.waits.values())


def _line_of_product() -> str:
    """Return the innermost line of the product's code that is being run."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename.startswith(PRODUCT):
            return f"{Path(frame.f_code.co_filename).relative_to(ROOT)}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "elsewhere"


LEDGER = Ledger()
