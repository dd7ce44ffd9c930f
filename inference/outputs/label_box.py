"""The box around all voxels of some label values."""

from collections.abc import Sequence

LabelBox = tuple[slice, ...]  # voxels (Z, Y, X)


def label_box(boxes: Sequence[LabelBox | None], values: Sequence[int]) -> LabelBox | None:
    """Return the smallest box (Z, Y, X) that holds all voxels of some label values, or None where there are none.

    `boxes` are those of the values 1, 2, ..., as `scipy.ndimage.find_objects` returns them.
    """
    found = [box for value in values if value <= len(boxes) and (box := boxes[value - 1]) is not None]
    if not found:
        return None
    return tuple(slice(min(part.start for part in parts), max(part.stop for part in parts)) for parts in zip(*found, strict=True))
