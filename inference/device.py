"""Where a network runs."""

import sys

import torch

from configs.errors import Fault, InputError


def peak_memory(device: torch.device | None = None) -> int:
    """Bytes at most: of tensors on a CUDA device, else resident in this process; 0 where the system does not tell.

    Other processes, such as those that load data, are not counted.
    """
    if device is not None and device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def choose_device(name: str | torch.device | None = None) -> torch.device:
    """The named device, or the best one there is: CUDA, Apple's MPS, the CPU.

    Raises:
        InputError: no such device here.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts where it was built without CUDA
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(Fault(f"device `{name}`", reason, "Choose cpu, or a device that this machine has")) from error
    return device
