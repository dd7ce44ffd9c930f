"""Agreement of two segmentations by the distance of their surfaces, in mm."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances between the surfaces of a prediction and a reference.

    A surface is the voxels of a mask that have a face neighbour outside of it (or outside of the image); distances are measured
    between voxel centres.

    Attributes:
        to_reference: mm, from each surface voxel of the prediction to the nearest one of the reference.
        to_prediction: mm, the other way.
    """

    to_reference: NDArray[np.float64]
    to_prediction: NDArray[np.float64]

    @property
    def hd95(self) -> float:
        """95 % Hausdorff distance in mm: the larger of both directions' 95th percentiles; NaN where a mask is empty."""
        if not (self.to_reference.size and self.to_prediction.size):
            return float("nan")
        return float(max(np.percentile(self.to_reference, 95), np.percentile(self.to_prediction, 95)))

    def surface_dice(self, tolerance: float) -> float:
        """Share of both surfaces within `tolerance` mm of the other one (Nikolov et al. 2021), each voxel counting alike.

        0 where one mask is empty, NaN where both are.
        """
        both = np.concatenate([self.to_reference, self.to_prediction])
        return float((both <= tolerance).mean()) if both.size else float("nan")


def surface_distances(predicted: Mask, reference: Mask, spacing: Sequence[float]) -> SurfaceDistances:
    """Measure two masks (Z, Y, X) on one grid.

    Args:
        predicted, reference: True inside.
        spacing: mm (Z, Y, X).

    Returns:
        Distances; infinite ones where the other mask is empty.

    Raises:
        ValueError: different shapes.
    """
    if predicted.shape != reference.shape:
        raise ValueError(f"prediction {predicted.shape} and reference {reference.shape} must have one shape")
    box = _bounding_box(predicted | reference)
    surfaces = [_surface(mask[box]) for mask in (predicted, reference)]
    to_reference, to_prediction = (_distance_to(other, spacing)[surface] for surface, other in (surfaces, reversed(surfaces)))
    return SurfaceDistances(to_reference, to_prediction)


def _surface(mask: Mask) -> Mask:
    return mask & ~ndimage.binary_erosion(mask)


def _distance_to(surface: Mask, spacing: Sequence[float]) -> NDArray[np.float64]:
    if not surface.any():
        return np.full(surface.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(~surface, sampling=tuple(spacing)))


def _bounding_box(mask: Mask) -> tuple[slice, ...]:
    found = ndimage.find_objects(mask.astype(np.uint8), max_label=1)[0]
    return found or (slice(0, 0),) * mask.ndim
