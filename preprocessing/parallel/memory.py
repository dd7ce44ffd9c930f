"""Available memory, and the number of processes that fit into it."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import joblib
import psutil

from configs.errors import Fault, times

WORKER_BYTES = 400 * 2**20  # memory of a process before it reads a case, for the interpreter and its libraries
_SHARE = 0.8  # of the available memory; the rest is for the page cache and for low estimates
_CONTROL_GROUP = Path("/sys/fs/cgroup")
_logger = logging.getLogger(__name__)


def available_bytes(control_group: Path = _CONTROL_GROUP) -> int:
    """Return the available memory in bytes, of the machine or of the container (Linux control group version 2) if that is less."""
    free = int(psutil.virtual_memory().available)
    try:
        limit = (control_group / "memory.max").read_text().strip()
        used = int((control_group / "memory.current").read_text())
        reclaimable = _statistic(control_group / "memory.stat", "inactive_file")
    except (OSError, ValueError):  # there is no such control group
        return free
    return free if limit == "max" else max(0, min(free, int(limit) - used + reclaimable))


def case_bytes(voxels: int, channels: int) -> int:
    """Estimate the memory in bytes to process a case, measured on CT and MR cases and rounded up.

    Voxels are those of one channel; for preprocessing, of the stored and the resampled image together.
    """
    return 64 * 2**20 + voxels * (10 * channels + 6)


def size_faults(where: str, shape: Sequence[int], spacing: Sequence[float], channels: int) -> list[Fault]:
    """Return a fault if an image (channels, *shape) float32 on a planned grid needs more memory than there is, swap included.

    It is counted before anything is allocated. `spacing` is that of the planned grid (Z, Y, X) in mm.
    """
    needed, available = 4 * channels * math.prod(shape), available_bytes() + int(psutil.swap_memory().free)
    if needed <= available:
        return []
    problem = (
        f"at the planned spacing {times(spacing)} mm it has {times(shape)} voxels (Z, Y, X), which take {times([needed / 2**30])} GiB, "
        f"and {times([available / 2**30])} GiB are available"
    )
    return [Fault(where, problem, "Check the spacing in its header; crop the image if it is right")]


def choose_jobs(wanted: int | None, largest: int, description: str) -> int:
    """Return the number of processes: as requested, or one per processor but no more than fit into memory.

    `largest` is the memory in bytes that the largest case may take beyond the process itself. A requested number is kept; a warning is
    logged if it may not fit.
    """
    available = available_bytes()
    fitting = max(1, math.floor(_SHARE * available / (WORKER_BYTES + largest)))
    sizes = f"the largest case takes about {largest / 1e9:.1f} GB and {available / 1e9:.1f} GB are available"
    if wanted is not None:
        if wanted > fitting:
            _logger.warning("%s: --jobs %d may be too many: %s, enough for %d", description, wanted, sizes, fitting)
        return wanted
    processors = int(joblib.cpu_count())
    if fitting < processors:
        _logger.info("%s: %d processes instead of %d: %s", description, fitting, processors, sizes)
    return min(fitting, processors)


def _statistic(path: Path, name: str) -> int:
    lines = (line.split() for line in path.read_text().splitlines())
    return next((int(words[1]) for words in lines if words and words[0] == name), 0)
