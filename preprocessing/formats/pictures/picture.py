"""PNG, JPEG and BMP pictures through Pillow: one slice, whose colours are channels.

A picture has no spacing: a pixel counts as 1 mm, unless a JSON file beside it states another one (`preprocessing.formats.spacing_beside`).
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from configs.errors import Fault, InputError
from configs.files import replacing
from preprocessing.formats.format import Format, Use
from preprocessing.formats.gate import admit_spacing
from preprocessing.formats.pictures.colours import (
    COLOURS,
    LOSSY,
    OPAQUE,
    lossy_fault,
    palette_fault,
    turned_fault,
    upright,
    without_alpha,
)
from preprocessing.formats.size_checks import MOST_DEFLATED, check_size
from preprocessing.formats.spacing_beside import read_spacing, spacing_file, write_spacing
from preprocessing.geometry.affine import Geometry

PIXEL = (1.0, 1.0, 1.0)  # mm (Z, Y, X) where nothing else is stated
_KINDS = ("PNG", "JPEG", "BMP")  # names of Pillow, by content; a JPEG file with several pictures is then called MPO
_CHANNELS = {"1": 1, "L": 1, "P": 1, "I": 1, "I;16": 1, "LA": 1, "PA": 1, "RGB": COLOURS, "RGBA": COLOURS}  # by Pillow's mode
_ORIENTATION = 0x0112  # tag of EXIF
_MOST = {"PNG": MOST_DEFLATED, "BMP": 128, "JPEG": 2048, "MPO": 2048}  # bytes of pixels that one byte of the file holds at most
_PNG_DEPTH = 24  # place of the bits per sample in a PNG file
_LIMIT = threading.Lock()


class Picture(Format):
    """Pictures of 8 bits for each colour, and of 1 to 16 bits without colours."""

    endings = (".png", *LOSSY, ".bmp")
    damage = (SyntaxError, AttributeError, Image.DecompressionBombError)  # of Pillow's readers

    def read(self, path: Path) -> tuple[NDArray, NDArray[np.float64]]:
        """Return the pixels (C, 1, Y, X) and the affine."""
        with _opened(path) as picture:
            shape = _shape(path, picture)
            pixels = np.asarray(picture)
            _check_upright(path, picture)
            samples = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0)
            samples = _stored_values(path, picture, without_alpha(path, samples, shape[0]))
        return samples[:, None], self._affine(path, shape)

    def read_header(self, path: Path) -> tuple[tuple[int, ...], NDArray[np.float64]]:
        """Return the shape (C, 1, Y, X) and the affine."""
        with _opened(path) as picture:
            shape = _shape(path, picture)
        return shape, self._affine(path, shape)

    def write(self, path: Path, array: NDArray, geometry: Geometry, like: Path | None) -> None:
        """Write an array (1, Y, X) of labels up to 65535 as PNG, or up to 255 as BMP, and the spacing where it is not 1 mm."""
        _check_writable(path, array)
        spacing = geometry.spacing if like is None else read_spacing(like, PIXEL)
        if spacing != PIXEL or spacing_file(path) is not None:  # such a file may be of an earlier picture
            write_spacing(path, spacing)
        small = array.max(initial=0) <= np.iinfo(np.uint8).max
        with replacing(path) as temporary:
            kind = path.suffix[1:].lower()
            Image.fromarray(array[0].astype(np.uint8 if small else np.uint16)).save(temporary, format=kind)

    def companions(self, path: Path) -> tuple[Path, ...]:
        """Return the file with the spacing, where there is one."""
        beside = spacing_file(path)
        return () if beside is None else (beside,)

    def unfit(self, path: Path, use: Use) -> tuple[Fault, ...]:
        """Return a fault for a palette or a transparent colour in an image, and for a JPEG file with labels, whatever its ending."""
        with _opened(path) as picture:
            if use == "labels" and picture.format in ("JPEG", "MPO"):
                return (lossy_fault(path),)
            if use == "image" and picture.mode in ("P", "PA"):
                return (palette_fault(path),)
            if use == "image" and "transparency" in picture.info:
                return (Fault(str(path), "one of its colours is declared transparent", OPAQUE),)
            return ()

    def _affine(self, path: Path, shape: tuple[int, ...]) -> NDArray[np.float64]:
        spacing = read_spacing(path, PIXEL)
        admit_spacing(str(path), shape[1:], spacing)
        return upright(spacing)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    with _LIMIT:  # Pillow refuses large pictures; here `check_size` compares them with their file
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            picture = Image.open(path, formats=_KINDS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    with picture:
        yield picture


def _shape(path: Path, picture: Image.Image) -> tuple[int, ...]:
    """The shape (C, 1, Y, X) of a picture whose header keeps the rules."""
    problem = _problem(path, picture)
    if problem is not None:
        raise InputError(Fault(str(path), *problem))
    shape = (_CHANNELS[picture.mode], 1, picture.height, picture.width)
    bits = 1 if picture.mode in ("1", "P", "L") else 8 * len(picture.getbands())
    stated = picture.height * picture.width * bits // 8
    check_size(path, shape, stated, path.stat().st_size * _MOST[str(picture.format)])
    if picture.format != "PNG" or "exif" in picture.info:  # else Pillow would load the pixels, behind which it may stand
        _check_upright(path, picture)
    return shape


def _problem(path: Path, picture: Image.Image) -> tuple[str, str] | None:
    """What forbids to read a picture, and the remedy."""
    frames = getattr(picture, "n_frames", 1)
    if frames > 1:
        return f"it holds {frames} pictures, as animations do", "Save the one that is meant as a file of its own"
    if picture.mode not in _CHANNELS:
        return f"its colours are {picture.mode}", "Convert it to RGB"
    if picture.mode not in ("I", "I;16") and _png_depth(path, picture) > 8:
        return "it has 16 bits for each colour, of which 8 would be lost", "Save it as TIFF, where all bits are read"
    return None


def _check_upright(path: Path, picture: Image.Image) -> None:
    turned = picture.getexif().get(_ORIENTATION, 1)
    if turned not in (0, 1):
        raise InputError(turned_fault(path, turned))


def _png_depth(path: Path, picture: Image.Image) -> int:
    """The bits of each sample; 8 for other formats than PNG."""
    if picture.format != "PNG":
        return 8
    with path.open("rb") as file:
        return file.read(_PNG_DEPTH + 1)[_PNG_DEPTH]


def _stored_values(path: Path, picture: Image.Image, samples: NDArray) -> NDArray:
    """The stored values: Pillow spreads grey values of 2 and 4 bits over 0 to 255."""
    if picture.mode == "1":
        return samples.astype(np.uint8)
    depth = _png_depth(path, picture) if picture.mode == "L" else 8
    if depth < 8:
        return samples // np.uint8(255 // (2**depth - 1))
    return samples.astype(np.uint16) if picture.mode in ("I", "I;16") else samples


def _check_writable(path: Path, array: NDArray) -> None:
    largest = np.iinfo(np.uint16 if path.suffix.lower() == ".png" else np.uint8).max
    if path.suffix.lower() in LOSSY:
        raise InputError(lossy_fault(path))
    if len(array) != 1:
        raise InputError(Fault(str(path), f"a picture holds one slice, not {len(array)}", "Write another format, such as .tif"))
    if not np.issubdtype(array.dtype, np.integer) or array.min(initial=0) < 0 or array.max(initial=0) > largest:
        problem = f"it cannot hold the values {array.min():g} to {array.max():g} of type {array.dtype}"
        raise InputError(Fault(str(path), problem, f"It holds whole numbers up to {largest}; .tif and .nii.gz hold others"))
