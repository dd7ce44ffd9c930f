"""Choose the device, and tell what it can do and how much memory it has."""

import re
import sys

import torch

from configs.errors import Fault, InputError

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


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a GPU computes in bfloat16 itself, as those since NVIDIA's Ampere do."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


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


def choose_device(name: str | torch.device | None = None) -> torch.device:
    """Return the named device, or the best available of CUDA, Apple's MPS and the CPU.

    Raises:
        InputError: the device is not available.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts if built without CUDA
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(Fault(f"device `{name}`", reason, "Use cpu, or a device of this machine")) from error
    return device
