"""Numbers as a report shows them."""

import math

from inference.report.scoring import Summary


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
