"""Numbers as a report shows them."""

import math
from dataclasses import dataclass

from inference.report.scoring import Summary
from inference.report.trained import Fold


@dataclass(frozen=True)
class Timing:
    """Of one fold.

    Attributes:
        fold: its name.
        epochs: in the log.
        total: seconds of all epochs, validation on patches included.
        epoch: median seconds of one.
        waiting: share of the training time spent waiting for data, mean over epochs.
        skipped: steps left out as not finite.
        memory: most bytes that the training process held at a time, or None where the log does not tell.
    """

    fold: str
    epochs: int
    total: float
    epoch: float
    waiting: float | None
    skipped: int
    memory: float | None


def timing_of(fold: Fold) -> Timing | None:
    """None where there is no log, or it tells no times."""
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
    """With so many digits behind the point; a dash where there is none."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def shown_interval(summary: Summary) -> str:
    """The 95 % interval of a mean."""
    return "-" if summary.interval is None else f"{summary.interval.low:.3f} to {summary.interval.high:.3f}"


def in_thousands(number: int) -> str:
    """Such as `135 k` or `31.2 M`."""
    return f"{number / 1e6:.3g} M" if number >= 1e6 else f"{number / 1e3:.3g} k"


def in_time(seconds: float) -> str:
    """A duration in two units at most, such as `2 h 5 min`."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def in_bytes(number: float) -> str:
    """An amount of memory, such as `1.4 GB`."""
    return f"{number / 1e9:.2g} GB" if number < 1e10 else f"{number / 1e9:.0f} GB"
