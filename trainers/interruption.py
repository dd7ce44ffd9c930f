"""Handle signals that ask a training to stop, which it does after the current step."""

import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType
from typing import Any, NoReturn, TypeVar

from configs.progress import Progress

T = TypeVar("T")
_SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1")  # sent by schedulers, by the keyboard, and by SLURM before the time limit


class TrainingInterruptedError(Exception):
    """A signal stopped the training after its state was saved.

    Attributes:
        signal_number: number of the signal.
    """

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.signal_number = signal_number


class StopRequest:
    """Records the first signal. A second one from the keyboard interrupts at once, as by default.

    Use it as a context manager, which restores the previous handlers. Outside the main thread, which alone may set handlers, it
    records nothing.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for name in _SIGNALS:
                number = getattr(signal, name, None)  # Windows lacks some
                if number is not None:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def raise_if_received(self, message: str) -> None:
        """Raise `TrainingInterruptedError` if a signal was received."""
        if self.received is not None:
            self.stop(message)

    def stop(self, message: str) -> NoReturn:
        """Raise `TrainingInterruptedError` for a signal received by this process or another one of the same training."""
        received = self.received or signal.SIGTERM
        raise TrainingInterruptedError(f"{received.name} received: {message}", int(received))

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = self.received or signal.Signals(number)


class Stoppable:
    """Progress display that stops at the next item after a signal, with the message of the `TrainingInterruptedError`."""

    def __init__(self, progress: Progress, stop: StopRequest, message: str):
        self._progress, self._stop, self._message = progress, stop, message

    def track(self, items: Iterable[T], description: str, total: int) -> Iterator[T]:
        """Yield the items, or raise `TrainingInterruptedError`."""
        for item in self._progress.track(items, description, total):
            self._stop.raise_if_received(self._message)
            yield item

    def note(self, text: str) -> None:
        """Show a text."""
        self._progress.note(text)
