"""Rules for colours that all formats of pictures share: channels are red, green and blue, and nothing is converted in silence."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs.errors import Fault, InputError

LOSSY = (".jpg", ".jpeg")  # endings
COLOURS = 3  # red, green and blue
OPAQUE = (
    "Flatten it onto a background and save it without alpha, for example with `magick IN -background white -alpha remove OUT`"
)


def palette_fault(path: Path) -> Fault:
    """Return the fault of a palette picture as an image. As a label file it is usual: the number in the palette is the label."""
    problem = "its values are numbers of a palette's colours, which are no intensities"
    return Fault(str(path), problem, "Convert it to RGB; a palette is for label files, where the number is the label")


def lossy_fault(path: Path) -> Fault:
    """Return the fault of a label file with JPEG compression."""
    problem = "a label file must not be compressed as JPEG, which changes the values around every edge"
    return Fault(str(path), problem, "Save the labels as PNG")


def turned_fault(path: Path, orientation: int) -> Fault:
    """Return the fault of a picture whose header asks viewers to turn it (EXIF and TIFF number the orientations; 1 is upright)."""
    problem = f"its EXIF orientation is {orientation}: some programs turn it when they show it, and others do not"
    remedy = "Save it turned, for example with `magick mogrify -auto-orient`, and check that its labels fit"
    return Fault(str(path), problem, remedy)


def without_alpha(path: Path, samples: NDArray, channels: int) -> NDArray:
    """Return samples (C, ...) without an alpha channel behind the first `channels`, if it is opaque everywhere.

    Raises:
        InputError: some pixels are transparent: what is seen there depends on the background of who looks.
    """
    if len(samples) == channels:
        return samples
    alpha = samples[channels]
    largest = np.iinfo(alpha.dtype).max if np.issubdtype(alpha.dtype, np.integer) else 1
    transparent = int(np.count_nonzero(alpha != largest))
    if transparent:
        raise InputError(Fault(str(path), f"{transparent} of its {alpha.size} pixels are transparent", OPAQUE))
    return samples[:channels]


def upright(spacing: tuple[float, float, float]) -> NDArray[np.float64]:
    """Return the affine of a picture with this spacing (Z, Y, X) in mm: its rows run downwards, from anterior to posterior.

    Figures have Y upwards, so that they show the picture as viewers do.
    """
    z, y, x = spacing
    return np.diag([x, -y, z, 1.0])
