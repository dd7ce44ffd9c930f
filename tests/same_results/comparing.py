"""Differences between two recordings."""

import fnmatch
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.same_results.digests import Json

ABSENT = "(absent)"


@dataclass(frozen=True)
class Difference:
    """One value that is not the same.

    Attributes:
        path: the keys that lead to it, joined by slashes.
        before, after: the two values.
    """

    path: str
    before: Json
    after: Json

    def __str__(self) -> str:
        return f"{self.path}: {self.before} -> {self.after}"


def differences(before: Json, after: Json, tolerance: float = 0.0, floor: float = 0.0) -> list[Difference]:
    """All values that differ.

    Args:
        before, after: two recordings.
        tolerance: relative difference of floating-point numbers that is let pass; 0 asks for equality to the bit.
        floor: absolute difference of floating-point numbers that is let pass.
    """
    first, second = dict(leaves(before)), dict(leaves(after))
    paths = [*first, *(path for path in second if path not in first)]
    pairs = [Difference(path, first.get(path, ABSENT), second.get(path, ABSENT)) for path in paths]
    return [pair for pair in pairs if not _same(pair.before, pair.after, tolerance, floor)]


def expected(found: Sequence[Difference], patterns: Sequence[str]) -> list[Difference]:
    """The differences whose path matches one of the shell patterns."""
    return [one for one in found if any(fnmatch.fnmatch(one.path, pattern) for pattern in patterns)]


def leaves(value: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    """Every value that has no parts, with the keys that lead to it; empty containers count as values."""
    if isinstance(value, dict | list) and value:
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        for name, part in parts:
            yield from leaves(part, f"{path}/{name}" if path else str(name))
    else:
        yield path, value


def _same(before: Json, after: Json, tolerance: float, floor: float) -> bool:
    if isinstance(before, float) and isinstance(after, float) and math.isnan(before):
        return math.isnan(after)
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (before, after))
    if numbers and isinstance(before, float) and (tolerance or floor):
        return math.isclose(before, after, rel_tol=tolerance, abs_tol=floor)
    return type(before) is type(after) and bool(before == after)
