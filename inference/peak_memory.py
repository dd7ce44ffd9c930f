"""The most memory that was held so far."""

import sys

import torch


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
