"""One progress display for all trainings of a run: it moves on by the seconds that each part of a training is expected to take."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from configs.progress import Progress, ticking
from configs.training import TrainingConfig
from trainers.monitoring.forecast import Speed
from trainers.pipeline.schedule import Training

T = TypeVar("T")


class WholeProgress:
    """Progress display of all trainings. While one of them runs, its own progress is shown as a note.

    Args:
        whole: progress display of the run.
        tick: function that moves it on by one second.
    """

    def __init__(self, whole: Progress, tick: Callable[[], object]):
        self._whole, self._tick = whole, tick
        self._title = self._description = ""
        self._seconds: Mapping[str, float] = {}
        self._done, self._ticked = 0.0, 0

    @contextmanager
    def training(self, training: Training, seconds: Mapping[str, float]) -> Iterator[None]:
        """Show a training in the block. After it, all its seconds count as passed.

        Args:
            training: training that runs in the block.
            seconds: expected seconds of an item, by the first word of the description under which it is tracked.
        """
        end = self._done + (training.seconds or 1.0)
        self._title, self._seconds = str(training), seconds
        yield
        self._move_to(end)

    def track(self, items: Iterable[T], description: str, total: int) -> Iterator[T]:
        """Yield the items of a part of a training."""
        self._description = description
        self.note("")
        for item in items:
            yield item
            self._move_to(self._done + self._seconds.get(description.split(" ")[0], 0.0))

    def note(self, text: str) -> None:
        """Show a short text on the training."""
        self._whole.note(f"{self._title}, {self._description}  {text}".rstrip())

    def _move_to(self, seconds: float) -> None:
        self._done = seconds
        for _ in range(int(seconds) - self._ticked):
            self._tick()
        self._ticked = max(self._ticked, int(seconds))


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
