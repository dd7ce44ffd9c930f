"""Read, compute and write in parallel, with short queues between the stages to bound memory.

If a case fails, its error is recorded and the other cases continue. Waiting for a stage never blocks forever: a thread that has ended
raises an error in those who wait for it.
"""

import logging
import queue
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

A = TypeVar("A")
B = TypeVar("B")
WAIT = 0.5  # seconds between checks whether the other stage is alive
LAST_WRITE = 60.0  # seconds for an interrupted run to finish writing its last file
LAST_READ = 10.0  # seconds for it to finish reading: Python aborts if it ends while a thread is inside a library
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stages(Generic[A, B]):
    """Functions of the three stages."""

    read: Callable[[str], A]  # function from a case to the input of `compute`, run in a thread
    compute: Callable[[str, A], B]  # function from a case and its input to the result, run in the caller's thread
    write: Callable[[str, B], None]  # function of a case and its result, run in a thread


class StageEndedError(RuntimeError):
    """A stage's thread ended before its work was done."""


def run_stages(
    cases: Iterable[str], stages: Stages[Any, Any], done: Callable[[], object] = lambda: None, ahead: int = 1
) -> dict[str, Exception]:
    """Run all stages for every case, and call `done` after each case that was computed or failed before.

    At most `ahead` cases are read in advance, and as many results may wait to be written.

    Returns:
        The error of each case that failed.

    Raises:
        StageEndedError: a thread was ended from outside.
        KeyboardInterrupt: or any other interruption of the caller's thread; the file being written is finished first.
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
        reader.join(LAST_READ)
    return {case: failures[case] for case in names if case in failures}


class _Channel:
    """A bounded queue that never blocks forever."""

    def __init__(self, length: int, stop: threading.Event):
        self._queue: queue.Queue[Any] = queue.Queue(length)
        self._stop = stop

    @property
    def is_closed(self) -> bool:
        return self._stop.is_set()

    def put(self, item: Any, other: "_Worker | None" = None) -> None:
        """Put an item when there is room. Raise an error if `other`, which takes the items, has ended."""
        while not self.is_closed:
            try:
                self._queue.put(item, timeout=WAIT)
            except queue.Full:
                if other is not None:
                    other.check()
            else:
                return

    def get(self, other: "_Worker | None" = None) -> Any:
        """Return an item, or None once the channel is closed. Raise an error if `other`, which puts the items, has ended."""
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
        del item, result  # freed while waiting for the next


def _note(failures: dict[str, Exception], case: str, error: Exception) -> None:
    logger.debug("traceback of case `%s`", case, exc_info=error)
    failures[case] = error


class _Worker(threading.Thread):
    """A thread that keeps the exception that ended it."""

    def __init__(self, name: str, work: Callable[[], None]):
        super().__init__(name=name, daemon=True)  # a read that blocks must not keep the process alive
        self._work = work
        self.ended_by: BaseException | None = None

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - reported to whoever waits for this thread
            self.ended_by = error

    def check(self) -> None:
        """Raise `StageEndedError` if the thread has ended."""
        if not self.is_alive():
            raise StageEndedError(f"the thread for {self.name} ended before its work was done") from self.ended_by
