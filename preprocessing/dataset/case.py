"""One case in memory, on the grid of its files."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from configs.dataset import DatasetDescription
from preprocessing.dataset.labels import to_class_indices
from preprocessing.dataset.raw import CaseFiles
from preprocessing.formats.images import read_image, read_labels
from preprocessing.geometry.affine import Geometry
from preprocessing.geometry.same_grid import require_same_grid


@dataclass(frozen=True)
class Case:
    """An image and its labels on one grid, in the axis order and orientation of the files.

    Raises:
        ValueError: an array's shape differs from the geometry's.
    """

    identifier: str  # case identifier
    image: NDArray[np.float32]  # image (C, Z, Y, X) float32
    labels: NDArray[np.int16] | None  # class indices (Z, Y, X) int16, or None
    geometry: Geometry  # geometry shared by image and labels

    def __post_init__(self) -> None:
        if self.image.ndim != 4 or self.image.shape[1:] != self.geometry.shape:
            raise ValueError(f"{self.identifier}: the image has the shape {self.image.shape}, its geometry {self.geometry.shape}")
        if self.labels is not None and self.labels.shape != self.geometry.shape:
            raise ValueError(f"{self.identifier}: labels have the shape {self.labels.shape}, the geometry {self.geometry.shape}")


def load_case(identifier: str, files: CaseFiles, description: DatasetDescription) -> Case:
    """Read a case's files, and convert label values to class indices.

    Raises:
        InputError: a file cannot be read, labels lie on another grid, or the description does not name a label value.
    """
    image, geometry = read_image(files.images)
    if files.labels is None:
        return Case(identifier, image, None, geometry)
    labels, grid = read_labels(files.labels)
    require_same_grid(str(files.labels), "the label file", grid, geometry)
    return Case(identifier, image, to_class_indices(labels, description, annotated=files.annotated), geometry)
