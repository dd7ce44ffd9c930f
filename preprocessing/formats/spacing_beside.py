"""The spacing of formats that have none of their own: a JSON file beside the image, as in nnU-Net.

The file `case.json` beside `case_0000.tif` (and beside the label file `case.tif`) holds {"spacing": [Z, Y, X]} in mm.
"""

import re
from pathlib import Path

from configs.errors import Fault, InputError
from configs.files import read_json, write_json

Lengths = tuple[float, float, float]
_CHANNEL = re.compile(r"_\d{4}$")
_REMEDY = 'Write {"spacing": [Z, Y, X]} there, mm between voxels along each axis of the array'


def spacing_file(path: Path) -> Path | None:
    """Return the existing file with the spacing of an image, or None."""
    stems = dict.fromkeys((path.stem, _CHANNEL.sub("", path.stem)))
    return next((beside for stem in stems if (beside := path.with_name(f"{stem}.json")).is_file()), None)


def read_spacing(path: Path, default: Lengths | None = None) -> Lengths:
    """Return the spacing (Z, Y, X) in mm from the file beside an image.

    Where there is no such file, `default` is taken; None makes this a fault.

    Raises:
        InputError: the file is missing or does not hold three lengths.
    """
    beside = spacing_file(path)
    if beside is None and default is not None:
        return default
    if beside is None:
        expected = path.with_name(f"{_CHANNEL.sub('', path.stem)}.json")
        raise InputError(Fault(str(path), f"its spacing is not known: there is no {expected.name} beside it", _REMEDY))
    content = read_json(beside)
    spacing = content.get("spacing") if isinstance(content, dict) else None
    if not isinstance(spacing, list) or len(spacing) != 3 or not all(_is_number(size) for size in spacing):
        raise InputError(Fault(str(beside), f"`spacing` must be three positive lengths, not {spacing}", _REMEDY))
    return float(spacing[0]), float(spacing[1]), float(spacing[2])


def write_spacing(path: Path, spacing: Lengths) -> None:
    """Write the spacing (Z, Y, X) in mm beside an image that is about to be written."""
    write_json(path.with_name(f"{path.stem}.json"), {"spacing": list(spacing)})


def _is_number(size: object) -> bool:
    return isinstance(size, int | float) and not isinstance(size, bool)
