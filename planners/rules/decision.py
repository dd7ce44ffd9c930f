"""A decision with its reason: every planning rule gives one."""

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Decision(Generic[T]):
    """What was decided, and a sentence with the numbers that decided it."""

    value: T
    reason: str
