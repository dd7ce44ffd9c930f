"""Report the progress of long work without printing."""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from itertools import repeat
from typing import Protocol, TypeVar, cast

T = TypeVar("T")


class Progress(Protocol):
    """Display of the progress of loops. Commands show a bar with the time left; library users may pass their own."""

    def track(self, items: Iterable[T], description: str, total: int) -> Iterator[T]:
        """Yield the items, showing how many of `total` are done."""
        ...

    def note(self, text: str) -> None:
        """Show a short text next to the bar, such as the current loss."""
        ...


class Silent:
    """A progress display that shows nothing."""

    def track(self, items: Iterable[T], description: str, total: int) -> Iterator[T]:
        """Yield the items."""
        del description, total
        yield from items

    def note(self, text: str) -> None:
        """Ignore the text."""
        del text


@contextmanager
def ticking(progress: Progress, title: str, total: int) -> Iterator[Callable[[], object]]:
    """Yield a function to call after each step; the progress display ends with the block."""
    steps = progress.track(repeat(None, total), title, total)

    def tick() -> None:
        next(steps, None)

    try:
        yield tick
        next(steps, None)  # a bar counts a step when the next one is requested
    finally:
        if hasattr(steps, "close"):
            cast(Generator, steps).close()
