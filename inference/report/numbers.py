"""Format the numbers of a report."""

import math
from dataclasses import dataclass

from inference.report.scoring import Summary
from inference.report.trained import Fold


@dataclass(frozen=True)
class Timing:
    """Time and memory of the training of one fold."""

    fold: str  # name of the fold
    epochs: int  # number of logged epochs
    total: float  # seconds of all epochs, including validation on patches
    epoch: float  # median seconds of an epoch
    waiting: float | None  # share of the training time spent waiting for data, averaged over epochs; None if not logged
    skipped: int  # number of steps skipped because a loss or gradient was not finite
    memory: float | None  # peak memory of the training process in bytes; None if not logged


def timing_of(fold: Fold) -> Timing | None:
    """Return time and memory from a fold's log, or None if it has no times."""
    log = fold.log
    if not len(log) or "seconds" not in log or log["seconds"].isna().all():
        return None
    memory = log["peak_memory"].max() if "peak_memory" in log else None
    return Timing(
        fold=fold.name,
        epochs=len(log),
        total=float(log["seconds"].sum()),
        epoch=float(log["seconds"].median()),
        waiting=float(log["data_wait_share"].mean()) if "data_wait_share" in log else None,
        skipped=int(log["skipped_steps"].sum()) if "skipped_steps" in log else 0,
        memory=None if memory is None or memory != memory else float(memory),
    )


def shown_number(value: float | None, digits: int = 3) -> str:
    """Format a number with this many decimals; a dash if it is undefined."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def shown_interval(summary: Summary) -> str:
    """Format the 95 % interval of a mean."""
    return "-" if summary.interval is None else f"{summary.interval.low:.3f} to {summary.interval.high:.3f}"


def in_thousands(number: int) -> str:
    """Format a number like `135 k` or `31.2 M`."""
    return f"{number / 1e6:.3g} M" if number >= 1e6 else f"{number / 1e3:.3g} k"


def in_time(seconds: float) -> str:
    """Format a duration like `2 h 5 min`."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def in_bytes(number: float) -> str:
    """Format an amount of memory like `1.4 GB`."""
    return f"{number / 1e9:.2g} GB" if number < 1e10 else f"{number / 1e9:.0f} GB"
