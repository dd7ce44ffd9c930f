"""Memory that is free, and how many processes fit into it."""

import logging
import math
from pathlib import Path

import joblib
import psutil

WORKER_BYTES = 400 * 2**20  # what a process takes before it reads a case: the interpreter and its libraries
_SHARE = 0.8  # of the free memory; the rest is for the page cache and for estimates that are too low
_CONTROL_GROUP = Path("/sys/fs/cgroup")
_logger = logging.getLogger(__name__)


def available_bytes(control_group: Path = _CONTROL_GROUP) -> int:
    """Memory that new work may take: of the machine, or of the container where that is less.

    Args:
        control_group: folder of Linux's control group (version 2), which states a container's limit.
    """
    free = int(psutil.virtual_memory().available)
    try:
        limit = (control_group / "memory.max").read_text().strip()
        used = int((control_group / "memory.current").read_text())
        reclaimable = _statistic(control_group / "memory.stat", "inactive_file")
    except (OSError, ValueError):  # no such control group
        return free
    return free if limit == "max" else max(0, min(free, int(limit) - used + reclaimable))


def case_bytes(voxels: int, channels: int) -> int:
    """About what work on a case takes: measured on CT and MR cases, and rounded up.

    Args:
        voxels: of one channel; to prepare a case, those of the stored and of the resampled image together.
        channels: of the image.
    """
    return 64 * 2**20 + voxels * (10 * channels + 6)


def choose_jobs(wanted: int | None, largest: int, description: str) -> int:
    """Processes to work with: as wanted, or else one for each processor and no more than fit into memory.

    A number that the user gave is kept; where it does not fit, that is logged as a warning.

    Args:
        wanted: the user's number, or None.
        largest: bytes that the largest case may take, beyond the process itself.
        description: of the work, for the log.
    """
    available = available_bytes()
    fitting = max(1, math.floor(_SHARE * available / (WORKER_BYTES + largest)))
    sizes = f"the largest case takes about {largest / 1e9:.1f} GB and {available / 1e9:.1f} GB are free"
    if wanted is not None:
        if wanted > fitting:
            _logger.warning("%s: --jobs %d may be too many: %s, which is enough for %d", description, wanted, sizes, fitting)
        return wanted
    processors = int(joblib.cpu_count())
    if fitting < processors:
        _logger.info("%s: %d processes instead of %d: %s", description, fitting, processors, sizes)
    return min(fitting, processors)


def _statistic(path: Path, name: str) -> int:
    lines = (line.split() for line in path.read_text().splitlines())
    return next((int(words[1]) for words in lines if words and words[0] == name), 0)
