"""Choose the axes of mirroring, without those that two labels distinguish by their ends."""

import re
from collections.abc import Iterable, Sequence

from planners.decision import Decision

# Words for the ends of the patient's axes, in the order of `planners.rules.orientation.patient_axes`.
_ENDS = {
    "left-right": ({"left", "l", "lt", "lh"}, {"right", "r", "rt", "rh"}),
    "front-back": ({"anterior", "ant", "front"}, {"posterior", "post", "back"}),
    "head-foot": ({"superior", "sup", "upper", "cranial"}, {"inferior", "inf", "lower", "caudal"}),
}
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


def choose_mirror_axes(labels: Sequence[str], axes: Sequence[int | None]) -> Decision[tuple[int, ...]]:
    """Choose all axes but those along which two labels differ only in the word for the end, such as `left` and `right`.

    A mirrored image has one label where it looks like the other. `axes` are the left-right, front-back and head-foot axis of (Z, Y, X) in
    the orientation of the plan, or None where an axis is unknown or differs between cases.
    """
    found = opposite_labels(labels)
    if not found:
        return Decision((0, 1, 2), "Mirroring along all axes, because no two labels differ only in their side.")
    told = " and ".join(f"{_told(pairs)} differ only in the {name} direction" for name, pairs in found.items())
    left_out = {axis for name, axis in zip(_ENDS, axes, strict=True) if name in found}
    if None in left_out:
        return Decision((), f"No mirroring: {told}, and no axis runs in this direction in all cases.")
    kept = tuple(axis for axis in range(3) if axis not in left_out)
    mirrored = f"Mirroring along {' and '.join('ZYX'[axis] for axis in kept)} only" if kept else "No mirroring"
    return Decision(kept, f"{mirrored}: {told}.")


def opposite_labels(labels: Iterable[str]) -> dict[str, list[tuple[str, str]]]:
    """Return pairs of names that differ only in the word for an end, such as `kidney_left` and `kidney_right`, for each direction."""
    names = list(labels)
    found = {direction: _pairs(names, *ends) for direction, ends in _ENDS.items()}
    return {direction: pairs for direction, pairs in found.items() if pairs}


def _pairs(labels: Sequence[str], *ends: set[str]) -> list[tuple[str, str]]:
    end_of = {word: end for end, its_words in enumerate(ends) for word in its_words}
    seen: dict[tuple[str, ...], dict[int, str]] = {}
    for name in labels:
        words = [word.lower() for word in _WORD.findall(name)]
        for position, word in enumerate(words):
            if word in end_of:
                stem = (*words[:position], "*", *words[position + 1 :])
                seen.setdefault(stem, {})[end_of[word]] = name
    return [(one[0], one[1]) for one in seen.values() if len(one) == 2]


def _told(pairs: Sequence[tuple[str, str]]) -> str:
    first = f"{pairs[0][0]} and {pairs[0][1]}"
    return first if len(pairs) == 1 else f"{len(pairs)} pairs of labels ({first}, ...)"
