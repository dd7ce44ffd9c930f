"""Where an image lies, from its header alone: no voxel is read."""

from pathlib import Path

from preprocessing.geometry import Geometry
from preprocessing.images import read_header


def read_geometry(path: Path) -> Geometry:
    """The geometry that an image's header states.

    Raises:
        InputError: the header cannot be read.
    """
    return read_header(path)[1]
