"""Numbers in sentences."""

from collections.abc import Iterable


def counted(number: int, thing: str) -> str:
    """A number of things, as `1 case` or `2 cases`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def times(numbers: Iterable[float]) -> str:
    """Numbers as `40 x 56 x 40`, with at most four significant digits after rounding."""
    return " x ".join(f"{number:.4g}" if number < 1000 else f"{number:.0f}" for number in numbers)
