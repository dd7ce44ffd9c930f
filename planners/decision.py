"""A decision with its reason, the result of every planning rule."""

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Decision(Generic[T]):
    """A decided value, and a sentence with the numbers that led to it."""

    value: T
    reason: str
