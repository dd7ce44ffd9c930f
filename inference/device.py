"""Choose the device, and tell what it can do and how much memory it has."""

import logging
import re
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from configs.errors import Fault, InputError, counted
from se_unet.layers.fused.choice import asked_kernels

logger = logging.getLogger(__name__)
_NVIDIA_DRIVER = Path("/proc/driver/nvidia")

# PyTorch raises its own type for what it allocates itself, and plain errors for what libraries and the host allocate.
_OUT_OF_MEMORY = re.compile(
    r"CUDA out of memory|CUDA error: out of memory|CU(DNN|BLAS)_STATUS_ALLOC_FAILED|DefaultCPUAllocator: can't allocate memory"
)


class DeviceMemoryError(RuntimeError):
    """The device has too little memory; the message says what to do."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on the device or on the host."""
    if isinstance(error, DeviceMemoryError):
        return False
    is_typed = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return is_typed or (isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)) is not None)


def reason_of(error: BaseException) -> str:
    """Return the first line of an error, or its type where it says nothing, as Python's own `MemoryError` does."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a GPU computes in bfloat16 itself, as those since NVIDIA's Ampere do."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def in_precision(device: torch.device, half: torch.dtype | None) -> AbstractContextManager[object]:
    """Return the context of forward passes in a half-precision type, or in float32 for None."""
    return nullcontext() if half is None else torch.autocast(device.type, half)


def peak_memory(device: torch.device | None = None) -> int:
    """Return peak memory in bytes: of tensors on a CUDA device, otherwise resident in this process; 0 if unknown.

    Other processes, such as those that load data, are not counted.
    """
    if device is not None and device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def seconds_of(action: Callable[[], object], enough: float) -> float:
    """Return the seconds that an action takes. Unless it takes more than `enough`, it is repeated: the first time sets up kernels."""
    seconds = 0.0
    for _ in range(2):
        start = time.perf_counter()
        action()
        seconds = time.perf_counter() - start
        if seconds > enough:
            break
    return seconds


def choose_device(name: str | torch.device | None = None) -> torch.device:
    """Return the named device, or else CUDA's first one, or else the CPU.

    Apple's `mps` and Intel's `xpu` are used only if they are named, since nobody has tested them.

    Raises:
        InputError: the device is not available, or `SE_UNET_KERNELS` asks for kernels that do not exist.
    """
    asked_kernels()
    if name is None:
        _warn_of_unusable_gpu()
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts if built without CUDA
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(Fault(f"device `{name}`", reason, f"Choose from {', '.join(existing_devices())}")) from error
    return device


def existing_devices() -> list[str]:
    """Return the names of the devices of this machine that PyTorch can use."""
    found = ["cpu"]
    found += [f"cuda:{index}" for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0)]
    found += ["mps"] if torch.backends.mps.is_available() else []
    return found + [f"xpu:{index}" for index in range(torch.xpu.device_count() if torch.xpu.is_available() else 0)]


def check_processes(number: int, device: str | None) -> None:
    """Check that there is a GPU for each of the processes that share a training, unless they train on the CPU.

    Raises:
        InputError: there are too few.
    """
    on_gpu = torch.cuda.is_available() and device != "cpu"
    if on_gpu and number > torch.cuda.device_count():
        problem = f"this machine has {counted(torch.cuda.device_count(), 'GPU')}"
        raise InputError(Fault(f"--num-gpus {number}", problem, f"Use --num-gpus {torch.cuda.device_count()}"))


def _warn_of_unusable_gpu() -> None:
    """Say why a GPU is left alone: a training that is a hundred times slower than it should be is a silent failure."""
    if torch.version.cuda is None or torch.cuda.is_available() or not _NVIDIA_DRIVER.exists():
        return
    reason = "no device is visible"
    try:
        torch.cuda.init()
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
    logger.warning("this machine has an NVIDIA driver, but PyTorch %s cannot use a GPU: %s", torch.__version__, reason)
