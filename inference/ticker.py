"""Progress of work that is done here and there, not in one loop."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from itertools import repeat
from typing import cast

from configs.progress import Progress


@contextmanager
def ticking(progress: Progress, title: str, total: int) -> Iterator[Callable[[], object]]:
    """Yield a function to be called for each piece done; the progress closes with the block."""
    steps = progress.track(repeat(None, total), title, total)

    def tick() -> None:
        next(steps, None)

    try:
        yield tick
        next(steps, None)  # a bar counts a piece when the next one is asked for
    finally:
        if hasattr(steps, "close"):
            cast(Generator, steps).close()
