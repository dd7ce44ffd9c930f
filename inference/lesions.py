"""Detection of separate pieces of a label: how many are found, missed and invented, whatever their size."""

from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Detection:
    """Pieces (voxels that touch by a face, an edge or a corner) of a label in a prediction and a reference.

    Attributes:
        detected: pieces of the reference that share a voxel with the prediction.
        missed: pieces of the reference that do not.
        false: pieces of the prediction that share no voxel with the reference.
    """

    detected: int
    missed: int
    false: int

    @property
    def f1(self) -> float:
        """2 detected / (2 detected + missed + false); NaN where there is no piece in either."""
        total = 2 * self.detected + self.missed + self.false
        return 2 * self.detected / total if total else float("nan")


def detect_lesions(predicted: Mask, reference: Mask) -> Detection:
    """Compare the pieces of two masks (Z, Y, X) on one grid.

    Raises:
        ValueError: different shapes.
    """
    if predicted.shape != reference.shape:
        raise ValueError(f"prediction {predicted.shape} and reference {reference.shape} must have one shape")
    box = ndimage.find_objects((predicted | reference).astype(np.uint8), max_label=1)[0]
    if box is None:
        return Detection(0, 0, 0)
    predicted, reference = predicted[box], reference[box]
    true_pieces, true_count = cc3d.connected_components(reference, connectivity=26, return_N=True)
    pieces, count = cc3d.connected_components(predicted, connectivity=26, return_N=True)
    detected = np.count_nonzero(np.unique(true_pieces[predicted]))
    confirmed = np.count_nonzero(np.unique(pieces[reference]))
    return Detection(int(detected), int(true_count - detected), int(count - confirmed))
