"""How library code tells that long work goes on, without printing."""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """Wraps a loop. Commands show a bar with the time left; library users may pass their own."""

    def track(self, items: Iterable[T], description: str, total: int) -> Iterator[T]:
        """Yield the items, showing how many of `total` are done."""
        ...

    def note(self, text: str) -> None:
        """Show a short text beside the bar, such as the current loss."""
        ...


class Silent:
    """Shows nothing."""

    def track(self, items: Iterable[T], description: str, total: int) -> Iterator[T]:
        """Yield the items."""
        del description, total
        yield from items

    def note(self, text: str) -> None:
        """Ignore the text."""
        del text
