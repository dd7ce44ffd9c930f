"""Arrays worked on part by part, where a step takes several times the memory of what it works on (indices, float64)."""

from collections.abc import Iterator

PART = 2**22  # elements: enough for the speed of array operations, and 32 MiB where each takes eight bytes


def parts(size: int, length: int = PART) -> Iterator[slice]:
    """Slices of `length` elements at most that cover `size` elements in order."""
    for start in range(0, size, length):
        yield slice(start, min(start + length, size))
