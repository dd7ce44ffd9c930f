"""Image formats by file ending. A format's library is imported when the first of its files is read or written."""

import re
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from configs.errors import Fault, InputError
from configs.named_parts import PATTERN, import_part
from preprocessing.formats.format import Format

PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
_TIFF = (".tif", ".tiff")  # of volumes and of pictures
_BUILT_IN = {
    "preprocessing.formats.nifti:Nifti": (".nii", ".nii.gz"),
    "preprocessing.formats.itk:Itk": (".nrrd", ".nhdr", ".mha", ".mhd", ".gipl", ".gipl.gz"),
    "preprocessing.formats.tiff:Tiff": _TIFF,
    "preprocessing.formats.pictures.picture:Picture": PICTURES,
    "preprocessing.dicom.series:DicomSeries": (".series",),
}
_HANDED_ON = (".series",)  # files that commands write for each other, which users need not know
_own: dict[str, tuple[str, ...]] = {}  # formats of the user; the last one that knows an ending comes first


def use_format(name: str | None) -> None:
    """Read and write files with a user's own format, in this process and in the workers that it starts.

    It replaces the built-in format of the same ending. Its module is imported, so its code runs: pass only names that the user gave.

    Args:
        name: `package.module:Class` of a `Format`; None adds none.

    Raises:
        InputError: the class cannot be imported, or is not a `Format` with endings.
    """
    if name is None:
        return
    where = f"image format `{name}`"
    if not re.fullmatch(PATTERN, name):
        raise InputError(Fault(where, "the name must have the form MODULE:CLASS", "Write for example my_module:MyFormat"))
    kind = import_part(name, "image format")
    try:
        endings = kind().endings if isinstance(kind(), Format) else ()
    except Exception as error:
        problem = f"it cannot be created ({type(error).__name__}: {error})"
        raise InputError(Fault(where, problem, "Fix the class")) from error
    if not isinstance(endings, tuple) or not endings or not all(re.fullmatch(r"\.[a-z0-9.]+", str(each)) for each in endings):
        problem = "it is not a preprocessing.formats.format.Format with a tuple of endings such as ('.npz',)"
        raise InputError(Fault(where, problem, "Derive the class from Format (docs/how_to/extend.md)"))
    _own[name] = endings


def require_format(name: object, where: Path) -> None:
    """Refuse a dataset that names a user's format which the user has not named.

    `name` is the `image_format` of the file `where`, None where it states none.

    Raises:
        InputError: the format is not in use.
    """
    if name is not None and name not in _own:
        problem = "this dataset uses a custom image format; its code runs only with --image-format"
        raise InputError(Fault(str(where), problem, f"If you have this code and trust it, add --image-format {name}"))


def in_workers(function: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    """Return a function of a case that first registers the user's formats in the process that calls it."""
    return partial(_call_with_formats, tuple(_own), function) if _own else function


def _call_with_formats(names: tuple[str, ...], function: Callable[[str, Any], Any], identifier: str, value: Any) -> Any:
    for name in names:
        use_format(name)
    return function(identifier, value)


def known_endings() -> tuple[str, ...]:
    """Return all endings of image files, built-in ones first."""
    return tuple(dict.fromkeys(ending for endings in (*_BUILT_IN.values(), *_own.values()) for ending in endings))


def ending_of(path: Path) -> str | None:
    """Return the ending of an image file (`.nii.gz` counts as one), or None for other files and hidden ones."""
    if path.name.startswith("."):
        return None
    matching = [ending for ending in known_endings() if path.name.lower().endswith(ending)]
    return max(matching, key=len, default=None)


def images_in(folder: Path) -> list[Path]:
    """Return the paths in a folder that are named like image files, sorted.

    Pictures beside volumes are left out, since they are previews and figures.
    """
    files = [file for file in sorted(folder.iterdir()) if ending_of(file)]
    volumes = [file for file in files if ending_of(file) not in PICTURES]
    return volumes if any(ending_of(file) not in _TIFF for file in volumes) else files


def stem_of(path: Path) -> str:
    """Return the file's name without its image ending."""
    return path.name[: len(path.name) - len(ending_of(path) or "")]


def format_of(path: Path) -> Format:
    """Return the format that reads and writes the file.

    Raises:
        InputError: no format has its ending.
    """
    ending = ending_of(path)
    for name, endings in (*reversed(_own.items()), *_BUILT_IN.items()):
        if ending in endings:
            return _make(name)
    raise InputError(Fault(str(path), "unknown image format", endings_remedy()))


def endings_remedy() -> str:
    """Return the remedy for files of an unknown ending."""
    shown = ", ".join(ending for ending in known_endings() if ending not in _HANDED_ON)
    return f"Use one of {shown}, or name a format of your own with --image-format"


@cache
def _make(name: str) -> Format:
    made: Format = import_part(name, "image format")()
    return made
