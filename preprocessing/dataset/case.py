"""One case in memory, as stored on disk."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from configs.dataset import DatasetDescription
from preprocessing.dataset.labels import to_class_indices
from preprocessing.dataset.raw import CaseFiles
from preprocessing.formats.images import read_image, read_labels
from preprocessing.geometry.affine import Geometry


@dataclass(frozen=True)
class Case:
    """An image with its labels on one grid, in the axis order and orientation of the files.

    Attributes:
        identifier: name of the case.
        image: (C, Z, Y, X) float32.
        labels: (Z, Y, X) int16 class indices, or None.
        geometry: of both.

    Raises:
        ValueError: an array does not agree with the geometry.
    """

    identifier: str
    image: NDArray[np.float32]
    labels: NDArray[np.int16] | None
    geometry: Geometry

    def __post_init__(self) -> None:
        if self.image.ndim != 4 or self.image.shape[1:] != self.geometry.shape:
            raise ValueError(
                f"{self.identifier}: an image of shape {self.image.shape} does not fit the grid {self.geometry.shape}"
            )
        if self.labels is not None and self.labels.shape != self.geometry.shape:
            raise ValueError(f"{self.identifier}: labels of shape {self.labels.shape} do not fit the grid {self.geometry.shape}")


def load_case(identifier: str, files: CaseFiles, description: DatasetDescription) -> Case:
    """Read a case's files; label values become class indices.

    Raises:
        InputError: a file cannot be read, or holds label values without a name.
    """
    image, geometry = read_image(files.images)
    labels = None if files.labels is None else to_class_indices(read_labels(files.labels)[0], description)
    return Case(identifier, image, labels, geometry)
