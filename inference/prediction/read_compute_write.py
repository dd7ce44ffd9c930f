"""Three stages side by side - reading, computing, writing - with short queues between them, so that memory stays bounded.

Whatever fails in one case is kept with its name, and the others go on. A stage that is waited for is watched: a thread that ends
without a word is an error, never an endless wait.
"""

import logging
import queue
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

A = TypeVar("A")
B = TypeVar("B")
WAIT = 0.5  # seconds between looks at the other stages while waiting for them
LAST_WRITE = 60.0  # seconds that an interrupted run gives its last file
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stages(Generic[A, B]):
    """What is done with a case.

    Attributes:
        read: case -> what the network needs. In a thread.
        compute: case and that -> result. In the caller's thread.
        write: case and result. In a thread.
    """

    read: Callable[[str], A]
    compute: Callable[[str, A], B]
    write: Callable[[str, B], None]


class StageEndedError(RuntimeError):
    """A stage's thread ended before its work was done."""


def run_stages(
    cases: Iterable[str], stages: Stages[Any, Any], done: Callable[[], object] = lambda: None, ahead: int = 1
) -> dict[str, Exception]:
    """Take every case through all stages.

    Args:
        cases: in order.
        stages: see there.
        done: called after each case that was computed or has failed before.
        ahead: cases that are read before they are needed, and results that wait to be written.

    Returns:
        The cases that failed, with the reason of each.

    Raises:
        StageEndedError: a thread was ended from outside.
        KeyboardInterrupt: and whatever else interrupts the caller's thread; what is being written is finished first.
    """
    names = list(cases)
    failures: dict[str, Exception] = {}
    stop = threading.Event()
    prepared, results = _Channel(ahead, stop), _Channel(ahead, stop)
    reader = _Worker("reading", lambda: _read(names, stages, prepared, failures))
    writer = _Worker("writing", lambda: _write(stages, results, failures))
    reader.start()
    writer.start()
    try:
        for _ in names:
            case, value = prepared.get(reader)
            if case not in failures:
                try:
                    results.put((case, stages.compute(case, value)), writer)
                except StageEndedError:
                    raise
                except Exception as error:  # noqa: BLE001 - whatever fails in one case must not stop the others
                    _note(failures, case, error)
            done()
        results.put(None, writer)
        writer.join()
        if writer.ended_by is not None:
            writer.check()
    finally:
        stop.set()
        writer.join(LAST_WRITE)
    return {case: failures[case] for case in names if case in failures}


class _Channel:
    """A queue of limited length that nobody waits at for ever."""

    def __init__(self, length: int, stop: threading.Event):
        self._queue: queue.Queue[Any] = queue.Queue(length)
        self._stop = stop

    @property
    def is_closed(self) -> bool:
        return self._stop.is_set()

    def put(self, item: Any, other: "_Worker | None" = None) -> None:
        """Wait for room. `other` takes the items: an error where it has ended."""
        while not self.is_closed:
            try:
                self._queue.put(item, timeout=WAIT)
            except queue.Full:
                if other is not None:
                    other.check()
            else:
                return

    def get(self, other: "_Worker | None" = None) -> Any:
        """Wait for an item, or None once the channel is closed. `other` puts them: an error where it has ended."""
        while not self.is_closed:
            try:
                return self._queue.get(timeout=WAIT)
            except queue.Empty:
                if other is not None and not other.is_alive() and self._queue.empty():  # in this order
                    other.check()
        return None


def _read(cases: list[str], stages: Stages[Any, Any], prepared: _Channel, failures: dict[str, Exception]) -> None:
    for case in cases:
        if prepared.is_closed:
            return
        value = None
        try:
            value = stages.read(case)
        except Exception as error:  # noqa: BLE001 - as above
            _note(failures, case, error)
        prepared.put((case, value))


def _write(stages: Stages[Any, Any], results: _Channel, failures: dict[str, Exception]) -> None:
    while (item := results.get()) is not None:
        case, result = item
        try:
            stages.write(case, result)
        except Exception as error:  # noqa: BLE001 - as above
            _note(failures, case, error)
        del item, result  # not to be held while waiting for the next


def _note(failures: dict[str, Exception], case: str, error: Exception) -> None:
    logger.debug("traceback of case `%s`", case, exc_info=error)
    failures[case] = error


class _Worker(threading.Thread):
    """A thread that keeps what ended it."""

    def __init__(self, name: str, work: Callable[[], None]):
        super().__init__(name=name, daemon=True)  # a read that never ends must not keep the process alive
        self._work = work
        self.ended_by: BaseException | None = None

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - raised by whoever waits for this thread
            self.ended_by = error

    def check(self) -> None:
        """Raise `StageEndedError` where the thread has ended."""
        if not self.is_alive():
            raise StageEndedError(f"the thread for {self.name} ended before its work was done") from self.ended_by
