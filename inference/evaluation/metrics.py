"""Measure the agreement of two segmentations: overlap, surface distances and detected components."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances between the surfaces of a prediction and a reference.

    A surface is the voxels of a mask that have a face neighbour outside of it (or outside of the image); distances are measured
    between voxel centres.
    """

    to_reference: NDArray[np.float64]  # mm, from each surface voxel of the prediction to the nearest one of the reference
    to_prediction: NDArray[np.float64]  # mm, the other way

    @property
    def hd95(self) -> float:
        """95 % Hausdorff distance in mm: the larger of both directions' 95th percentiles; NaN if a mask is empty."""
        if not (self.to_reference.size and self.to_prediction.size):
            return float("nan")
        return float(max(np.percentile(self.to_reference, 95), np.percentile(self.to_prediction, 95)))

    def dice_by_voxels(self, tolerance: float) -> float:
        """Share of both surfaces' voxels within `tolerance` mm of the other one; 0 where one mask is empty, NaN where both are."""
        both = np.concatenate([self.to_reference, self.to_prediction])
        return float((both <= tolerance).mean()) if both.size else float("nan")


def surface_distances(predicted: Mask, reference: Mask, spacing: Sequence[float]) -> SurfaceDistances:
    """Measure two masks (Z, Y, X) on one grid with this spacing in mm; distances are infinite where the other mask is empty.

    Raises:
        ValueError: different shapes.
    """
    if predicted.shape != reference.shape:
        raise ValueError(f"prediction {predicted.shape} and reference {reference.shape} must have one shape")
    box = _bounding_box(predicted | reference)
    surfaces = [_surface(mask[box]) for mask in (predicted, reference)]
    to_reference, to_prediction = (_distance_to(other, spacing)[surface] for surface, other in (surfaces, reversed(surfaces)))
    return SurfaceDistances(to_reference, to_prediction)


def surface_dice(predicted: Mask, reference: Mask, spacing: Sequence[float], tolerance: float) -> float:
    """Return the share of both surfaces' area that lies within `tolerance` mm of the other one (Nikolov et al. 2021).

    A surface element lies wherever eight neighbouring voxels are not all alike, and has the area of its marching cubes triangles, as in
    DeepMind's `surface-distance`, with which the values agree. 0 where one mask is empty, NaN where both are. The masks (Z, Y, X) have one
    shape, and this spacing in mm.
    """
    box = _bounding_box(predicted | reference)
    codes = [_neighbour_codes(mask[box]) for mask in (predicted, reference)]
    surfaces = [(code > 0) & (code < 255) for code in codes]
    areas = [_element_areas(tuple(spacing))[code[surface]] for code, surface in zip(codes, surfaces, strict=True)]
    near = [_distance_to(other, spacing)[surface] <= tolerance for surface, other in (surfaces, reversed(surfaces))]
    total = sum(float(area.sum()) for area in areas)
    return sum(float(area[is_near].sum()) for area, is_near in zip(areas, near, strict=True)) / total if total else float("nan")


def _neighbour_codes(mask: Mask) -> NDArray[np.uint8]:
    """One bit for each of the eight voxels around each corner of the grid: (Z + 1, Y + 1, X + 1)."""
    padded = np.pad(mask, 1).astype(np.uint8)
    z, y, x = (size + 1 for size in mask.shape)
    codes = np.zeros((z, y, x), np.uint8)
    for bit, (i, j, k) in enumerate(np.ndindex(2, 2, 2)):
        codes |= padded[i : i + z, j : j + y, k : k + x] << bit
    return codes


@lru_cache(maxsize=16)
def _element_areas(spacing: tuple[float, ...]) -> NDArray[np.float64]:
    """Area in mm^2 of a surface element for each neighbour code: the smaller of marching cubes' for the code and its complement."""
    from skimage.measure import marching_cubes, mesh_surface_area  # takes long to load, and few need it

    areas = np.zeros(256)
    for code in range(1, 255):
        corner = np.unpackbits(np.array([code], np.uint8), bitorder="little").reshape(2, 2, 2).astype(np.float32)
        vertices, faces, _, _ = marching_cubes(corner, 0.5, spacing=spacing, method="lorensen")
        areas[code] = mesh_surface_area(vertices, faces)
    return np.minimum(areas, areas[::-1])


def _surface(mask: Mask) -> Mask:
    return mask & ~ndimage.binary_erosion(mask)


def _distance_to(surface: Mask, spacing: Sequence[float]) -> NDArray[np.float64]:
    if not surface.any():
        return np.full(surface.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(~surface, sampling=tuple(spacing)))


def _bounding_box(mask: Mask) -> tuple[slice, ...]:
    found = ndimage.find_objects(mask.astype(np.uint8), max_label=1)[0]
    return found or (slice(0, 0),) * mask.ndim


@dataclass(frozen=True)
class Detection:
    """Connected components (26 neighbours) of a label in a prediction and a reference."""

    detected: int  # number of components of the reference that share a voxel with the prediction
    missed: int  # number of the other components of the reference
    false: int  # number of components of the prediction that share no voxel with the reference

    @property
    def f1(self) -> float:
        """2 detected / (2 detected + missed + false); NaN if there are no components."""
        total = 2 * self.detected + self.missed + self.false
        return 2 * self.detected / total if total else float("nan")


def detect_lesions(predicted: Mask, reference: Mask) -> Detection:
    """Compare the components of two masks (Z, Y, X) on one grid.

    Raises:
        ValueError: the shapes differ.
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


NAN = float("nan")


@dataclass(frozen=True)
class Overlap:
    """Numbers of voxels of one label in a prediction P and a reference R."""

    both: int  # voxels in P and R
    only_predicted: int  # voxels in P only
    only_reference: int  # voxels in R only

    @property
    def predicted(self) -> int:
        """Number of voxels in P, |P|."""
        return self.both + self.only_predicted

    @property
    def reference(self) -> int:
        """Number of voxels in R, |R|."""
        return self.both + self.only_reference

    @property
    def dice(self) -> float:
        """2 |P and R| / (|P| + |R|); NaN if both are empty."""
        return _ratio(2 * self.both, self.predicted + self.reference)

    @property
    def iou(self) -> float:
        """|P and R| / |P or R|; NaN if both are empty."""
        return _ratio(self.both, self.both + self.only_predicted + self.only_reference)

    @property
    def precision(self) -> float:
        """|P and R| / |P|; NaN if nothing is predicted."""
        return _ratio(self.both, self.predicted)

    @property
    def recall(self) -> float:
        """|P and R| / |R|; NaN if the label is absent."""
        return _ratio(self.both, self.reference)

    @property
    def volume_error(self) -> float:
        """(|P| - |R|) / |R|, positive if too much is predicted; NaN if the label is absent."""
        return _ratio(self.predicted - self.reference, self.reference)


def confusion_matrix(predicted: NDArray[np.integer], reference: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """Count the voxels of each pair of class indices, which are below `classes`, in two arrays of equal shape.

    Returns:
        Counts (classes, classes); entry [p, r] is the number of voxels of class r that are predicted as p.

    Raises:
        ValueError: the shapes differ, or an index is out of range.
    """
    if predicted.shape != reference.shape:
        raise ValueError(f"prediction {predicted.shape} and reference {reference.shape} must have one shape")
    for name, indices in (("prediction", predicted), ("reference", reference)):
        if indices.size and not (int(indices.min()) >= 0 and int(indices.max()) < classes):
            raise ValueError(f"the {name} has indices from {indices.min()} to {indices.max()}, not from 0 to {classes - 1}")
    pairs = predicted.astype(np.int64).ravel() * classes + reference.ravel()
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def overlap(confusion: NDArray[np.int64], members: Sequence[int]) -> Overlap:
    """Return the overlap of a label, or of a region of several classes, from counts (classes, classes) by predicted and reference class."""
    inside = list(members)
    both = int(confusion[np.ix_(inside, inside)].sum())
    return Overlap(both, int(confusion[inside].sum()) - both, int(confusion[:, inside].sum()) - both)


def volume_similarity(predicted: int, reference: int) -> float:
    """Return 1 - |P - R| / (P + R) for numbers of voxels P and R (Taha and Hanbury 2015); 0 if one is 0, NaN if both are."""
    return 1 - _ratio(abs(predicted - reference), predicted + reference)


def _ratio(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else NAN
