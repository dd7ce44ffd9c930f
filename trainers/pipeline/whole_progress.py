"""One progress display for all trainings of a run: it moves on by the seconds that each part of a training is expected to take."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from configs.progress import Progress, ticking
from configs.training import TrainingConfig
from trainers.monitoring.forecast import Speed
from trainers.pipeline.schedule import Training

T = TypeVar("T")


class WholeProgress:
    """Progress display of all trainings, also of several that run side by side, each in a thread of its own.

    `tick` moves the display of the run on by one second.
    """

    def __init__(self, whole: Progress, tick: Callable[[], object]):
        self._whole, self._tick = whole, tick
        self._passed, self._ticked = 0.0, 0
        self._notes: dict[str, str] = {}
        self._lock = threading.Lock()

    @contextmanager
    def training(self, training: Training, seconds: Mapping[str, float]) -> Iterator["TrainingProgress"]:
        """Yield the display of a training that runs in the block. After it, all its seconds count as passed.

        Args:
            training: training that runs in the block.
            seconds: expected seconds of an item, by the first word of the description under which it is tracked.
        """
        shown = TrainingProgress(self, str(training), seconds)
        yield shown
        self.move((training.seconds or 1.0) - shown.passed)
        self._notes.pop(str(training), None)

    def move(self, seconds: float) -> None:
        """Move on by the seconds that a part of a training was expected to take."""
        with self._lock:
            self._passed += seconds
            for _ in range(int(self._passed) - self._ticked):
                self._tick()
            self._ticked = max(self._ticked, int(self._passed))

    def note(self, title: str, text: str) -> None:
        """Show a short text on a training beside those on the others that are running."""
        with self._lock:
            self._notes[title] = text
            self._whole.note("; ".join(f"{each}, {note}" for each, note in self._notes.items()))


class TrainingProgress:
    """Progress display of one training within that of the run; its own progress is shown as a note.

    `seconds` has the expected seconds of an item, by the first word of the description under which it is tracked.
    """

    def __init__(self, whole: WholeProgress, title: str, seconds: Mapping[str, float]):
        self.passed = 0.0  # seconds, as expected
        self._whole, self._title, self._seconds = whole, title, seconds
        self._description = ""

    def track(self, items: Iterable[T], description: str, total: int) -> Iterator[T]:
        """Yield the items of a part of the training."""
        del total
        self._description = description
        self.note("")
        for item in items:
            yield item
            self._move(1)

    def show(self, description: str, items: int, note: str) -> None:
        """Move on by items of the part of the training with this description, and show a note."""
        self._description = description
        self.note(note)
        self._move(items)

    def note(self, text: str) -> None:
        """Show a short text on the training."""
        self._whole.note(self._title, f"{self._description}  {text}".rstrip())

    def _move(self, items: int) -> None:
        seconds = items * self._seconds.get(self._description.split(" ")[0], 0.0)
        self.passed += seconds
        self._whole.move(seconds)


@contextmanager
def whole_progress(progress: Progress, trainings: Sequence[Training]) -> Iterator[WholeProgress]:
    """Yield the display of the whole run, in expected seconds."""
    total = int(sum(training.seconds or 1.0 for training in trainings)) or 1
    with ticking(progress, "Training, in seconds as expected", total) as tick:
        yield WholeProgress(progress, tick)


def seconds_of_items(speed: Speed | None, config: TrainingConfig, validation_cases: int) -> dict[str, float]:
    """Return the expected seconds of a step, of a validation case and of a case that is looked at for the calibration."""
    if speed is None:
        return {}
    cases = max(validation_cases, 1)
    return {
        "epoch": speed.epoch / config.iterations,
        "Validating": speed.validation / cases,
        "Calibrating": speed.calibration / cases,
    }
