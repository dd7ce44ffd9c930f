"""Which axes may be mirrored: not left to right where labels tell the sides apart."""

import re
from collections.abc import Iterable

from planners.rules.decision import Decision


def choose_test_scales() -> Decision[tuple[float, ...]]:
    """Return the image as it is: a mean over sizes takes three times as long and scored lower (`docs/explanation/evidence.md`)."""
    remedy = "`se_predict --scale-weights confidence` is there for images whose structures have other sizes than in training"
    return Decision((1.0,), f"No test-time scale ensembling: at the sizes of training it did not pay; {remedy}.")


_SIDES = {"left": "left", "l": "left", "lt": "left", "lh": "left", "right": "right", "r": "right", "rt": "right", "rh": "right"}
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_LEFT_RIGHT = 2  # of (Z, Y, X) in canonical orientation


def choose_mirror_axes(labels: Iterable[str], canonical: bool) -> Decision[tuple[int, ...]]:
    """All axes, but not the left-right axis where two labels differ in their side only.

    Args:
        labels: names.
        canonical: images are brought to canonical orientation; otherwise it is not known which axis is left-right.
    """
    pairs = side_pairs(labels)
    if not pairs:
        return Decision((0, 1, 2), "Mirroring along all axes, as no two labels are the left and the right of something.")
    first = f"{pairs[0][0]} and {pairs[0][1]}"
    found = f"{len(pairs)} pairs of labels differ in their side only ({first}{', ...' if len(pairs) > 1 else ''})"
    if len(pairs) == 1:
        found = f"{first} differ in their side only"
    if not canonical:
        return Decision((), f"No mirroring: {found}, and which axis is left-right is not known in orientation as stored.")
    axes = tuple(axis for axis in range(3) if axis != _LEFT_RIGHT)
    return Decision(axes, f"Mirroring along Z and Y but not along the left-right axis X: {found}.")


def side_pairs(labels: Iterable[str]) -> list[tuple[str, str]]:
    """(left label, right label) of names that differ in one word of side, such as `kidney_left` and `kidney_right`."""
    sides: dict[tuple[str, ...], dict[str, str]] = {}
    for name in labels:
        words = [word.lower() for word in _WORD.findall(name)]
        for position, word in enumerate(words):
            if word in _SIDES:
                stem = (*words[:position], "*", *words[position + 1 :])
                sides.setdefault(stem, {})[_SIDES[word]] = name
    return [(found["left"], found["right"]) for found in sides.values() if len(found) == 2]
