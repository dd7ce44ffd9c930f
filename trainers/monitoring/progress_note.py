"""Text beside the progress bar: loss, Dice, learning rate, time spent waiting for data and remaining time."""

import math
import time
from collections.abc import Mapping

_MOST_LABELS = 5
_SMOOTHING = 0.95  # of the loss and the duration of a step


class ProgressNote:
    """Formats the numbers of a running training as a short text."""

    def __init__(self, total_steps: int):
        self._total = total_steps
        self._loss = math.nan
        self._seconds = math.nan
        self._last: float | None = None

    def text(
        self, step: int, loss: float, rate: float, waiting: float, dice: Mapping[str, float], seconds_left: float = math.inf
    ) -> str:
        """Record a finished step, and return the text.

        `waiting` is the share of this epoch's time spent waiting for data; the loss of a skipped step is NaN. The training has
        `seconds_left` if its time is limited.
        """
        now = time.monotonic()
        if self._last is not None:
            self._seconds = _smooth(self._seconds, now - self._last)
        self._last = now
        self._loss = _smooth(self._loss, loss)
        shown = [f"{label} {value:.2f}" for label, value in list(dice.items())[:_MOST_LABELS]]
        parts = [f"loss {self._loss:.3f}", *([f"Dice {', '.join(shown)}"] if shown else []), f"lr {rate:.1e}"]
        parts.append(f"waiting for data {waiting:.0%}")
        if not math.isnan(self._seconds):
            parts.append(f"remaining {duration(min(self._seconds * (self._total - step), seconds_left))}")
        return "  ".join(parts)

    def pause(self) -> None:
        """Exclude the time until the next step, which is spent on something else."""
        self._last = None


def duration(seconds: float) -> str:
    """Format a duration like `2 h 05 min`, `3 min` or `40 s`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _smooth(average: float, value: float) -> float:
    if math.isnan(value):
        return average
    return value if math.isnan(average) else _SMOOTHING * average + (1 - _SMOOTHING) * value
