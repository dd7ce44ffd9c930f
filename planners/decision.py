"""A decision with its reason: every planning rule gives one."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Decision(Generic[T]):
    """What was decided, and a sentence with the numbers that decided it."""

    value: T
    reason: str


def counted(number: int, thing: str) -> str:
    """A number of things, as `1 case` or `2 cases`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def times(numbers: Iterable[float]) -> str:
    """Numbers as `40 x 56 x 40`, with at most four significant digits after rounding."""
    return " x ".join(f"{number:.4g}" if number < 1000 else f"{number:.0f}" for number in numbers)
