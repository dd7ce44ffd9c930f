"""The progress of a training in a process of its own, told in lines of its output to the process that started it."""

import json
import time
from collections.abc import Iterable, Iterator
from typing import TextIO, TypeVar

from configs.files import parse_json
from trainers.pipeline.whole_progress import TrainingProgress

T = TypeVar("T")
_MARK = "\x1e"  # at the beginning of a line that tells progress: the record separator, which no message contains
_SECONDS = 1.0  # between two lines, at least


class ToldProgress:
    """Progress display that writes lines for `messages_of` into a text file."""

    def __init__(self, output: TextIO):
        self._output = output
        self._note, self._items, self._last = "", 0, 0.0

    def track(self, items: Iterable[T], description: str, total: int) -> Iterator[T]:
        """Yield the items of a part of the training."""
        del total
        self._tell(description)
        for item in items:
            yield item
            self._items += 1
            if time.monotonic() - self._last > _SECONDS:
                self._tell(description)
        self._tell(description)

    def note(self, text: str) -> None:
        """Show a short text on the training with the next line."""
        self._note = text

    def _tell(self, description: str) -> None:
        told = {"description": description, "items": self._items, "note": self._note}
        print(_MARK + json.dumps(told), file=self._output, flush=True)
        self._items, self._last = 0, time.monotonic()


def messages_of(lines: Iterable[str], progress: TrainingProgress | None) -> list[str]:
    """Show the progress that lines of a process tell, and return all other lines that are not empty."""
    messages = []
    for line in map(str.rstrip, lines):
        if not line.startswith(_MARK):
            messages += [line] if line else []
        elif progress is not None:
            told = parse_json(line.removeprefix(_MARK))
            progress.show(told["description"], told["items"], told["note"])
    return messages
