"""Warnings of worker processes, collected there and logged by the process that they work for.

A worker's own log reaches nobody: the user's terminal and the run's log belong to the process that started the work.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Message:
    """A log record in plain values, because not every record can be pickled."""

    logger: str
    level: int
    text: str


class _Collector(logging.Handler):
    """Handler that keeps each record unless another collector, of a case in another thread, has it already."""

    def __init__(self, messages: list[Message]) -> None:
        super().__init__(logging.WARNING)
        self._messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        if not hasattr(record, "is_collected"):
            record.is_collected = True
            self._messages.append(Message(record.name, record.levelno, record.getMessage()))


@contextmanager
def collecting_messages() -> Iterator[list[Message]]:
    """Collect the warnings and errors that are logged in this process in the yielded list."""
    messages: list[Message] = []
    collector, root = _Collector(messages), logging.getLogger()
    root.addHandler(collector)
    try:
        yield messages
    finally:
        root.removeHandler(collector)


def log_again(messages: Iterable[Message]) -> None:
    """Log messages of another process in this one, under the names of their loggers."""
    for message in messages:
        logging.getLogger(message.logger).log(message.level, "%s", message.text)
