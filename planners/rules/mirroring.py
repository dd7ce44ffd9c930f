"""Choose the axes of mirroring, without the left-right axis where labels distinguish the sides."""

import re
from collections.abc import Iterable

from planners.decision import Decision

_SIDES = {"left": "left", "l": "left", "lt": "left", "lh": "left", "right": "right", "r": "right", "rt": "right", "rh": "right"}
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


def choose_mirror_axes(labels: Iterable[str], left_right: int | None) -> Decision[tuple[int, ...]]:
    """Choose all axes, but not the left-right axis where two labels differ only in their side.

    `left_right` is the left-right axis of (Z, Y, X) in the orientation of the plan, or None where it is unknown or differs between cases.
    """
    pairs = side_pairs(labels)
    if not pairs:
        return Decision((0, 1, 2), "Mirroring along all axes, because no two labels differ only in their side.")
    found = f"{pairs[0][0]} and {pairs[0][1]} differ only in their side"
    if len(pairs) > 1:
        found = f"{len(pairs)} pairs of labels differ only in their side ({pairs[0][0]} and {pairs[0][1]}, ...)"
    if left_right is None:
        return Decision((), f"No mirroring: {found}, and no axis runs from left to right in all cases.")
    axes = tuple(axis for axis in range(3) if axis != left_right)
    mirrored = " and ".join("ZYX"[axis] for axis in axes)
    return Decision(axes, f"Mirroring along {mirrored} but not along the left-right axis {'ZYX'[left_right]}: {found}.")


def side_pairs(labels: Iterable[str]) -> list[tuple[str, str]]:
    """Return (left label, right label) of names that differ only in the word for the side, such as `kidney_left` and `kidney_right`."""
    sides: dict[tuple[str, ...], dict[str, str]] = {}
    for name in labels:
        words = [word.lower() for word in _WORD.findall(name)]
        for position, word in enumerate(words):
            if word in _SIDES:
                stem = (*words[:position], "*", *words[position + 1 :])
                sides.setdefault(stem, {})[_SIDES[word]] = name
    return [(found["left"], found["right"]) for found in sides.values() if len(found) == 2]
