"""From an image as stored to what a network sees, and from a network's scores back to the image's own grid.

orientation -> crop to nonzero -> normalise -> resample          and back:  resample -> paste -> orientation
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from configs.files import Value
from configs.fingerprint import Shape, Spacing
from configs.plan import ConfigurationPlan
from preprocessing.geometry.affine import Affine, Geometry
from preprocessing.geometry.cropping import Box, nonzero_box
from preprocessing.geometry.orientation import Orientation, Policy, find_orientation
from preprocessing.geometry.resampled_grid import find_separate_axis, resampled_shape
from preprocessing.normalise import normalise

if TYPE_CHECKING:
    from torch import Tensor


class Trace(Value):
    """What preprocessing did to the geometry of one image: enough for the exact inverse.

    Attributes:
        stored_shape: voxels (Z, Y, X) of the file.
        stored_affine: of the file; maps voxel indices (x, y, z) to RAS+ mm.
        orientation: how the stored array was turned.
        box: kept part of the turned array.
        spacing: of the turned array, mm (Z, Y, X).
        resampled_shape: voxels (Z, Y, X) at the planned spacing.
        resampled_spacing: the planned spacing, mm (Z, Y, X).
        separate_axis: axis of the turned array resampled by nearest neighbours.
    """

    stored_shape: Shape
    stored_affine: Affine
    orientation: Orientation
    box: Box
    spacing: Spacing
    resampled_shape: Shape
    resampled_spacing: Spacing
    separate_axis: int | None

    @model_validator(mode="after")
    def _geometry_is_usable(self) -> "Trace":
        Geometry.from_affine(self.stored_shape, self.stored_affine)
        return self

    @property
    def geometry(self) -> Geometry:
        """Geometry of the image as stored."""
        return Geometry.from_affine(self.stored_shape, self.stored_affine)


@dataclass(frozen=True)
class Preprocessed:
    """What a network sees.

    Attributes:
        image: (C, Z, Y, X) float32 at the planned spacing, in canonical orientation, normalised.
        labels: (Z, Y, X) int16 class indices on the same grid, or None.
        trace: the way back.
    """

    image: NDArray[np.float32]
    labels: NDArray[np.int16] | None
    trace: Trace


def preprocess(
    image: NDArray[np.float32],
    labels: NDArray[np.int16] | None,
    geometry: Geometry,
    configuration: ConfigurationPlan,
    orientation: Policy = "canonical",
) -> Preprocessed:
    """Prepare one image as the plan says.

    Args:
        image: (C, Z, Y, X) float32 as stored.
        labels: (Z, Y, X) class indices as stored, or None.
        geometry: of both.
        configuration: spacing and normalisation.
        orientation: the plan's policy.

    Raises:
        ValueError: another number of channels than planned, or arrays that do not fit the geometry.
    """
    if image.shape[1:] != geometry.shape or (labels is not None and labels.shape != geometry.shape):
        raise ValueError(f"image {image.shape} and labels must lie on the grid {geometry.shape}")
    turn = find_orientation(geometry, orientation)
    turned = turn.apply(image)
    spacing = turn.apply_geometry(geometry).spacing
    planned = configuration.grid_spacing(spacing)
    box = nonzero_box(turned)
    trace = Trace(
        stored_shape=geometry.shape,
        stored_affine=geometry.affine,
        orientation=turn,
        box=box,
        spacing=spacing,
        resampled_shape=resampled_shape(box.shape, spacing, planned),
        resampled_spacing=planned,
        separate_axis=find_separate_axis(spacing, planned, configuration.separate_axis_ratio),
    )
    cropped = None if labels is None else np.ascontiguousarray(box.crop(turn.apply(labels)), dtype=np.int16)
    return _resample(normalise(box.crop(turned), configuration.normalisation), cropped, trace)


def restore_labels(labels: NDArray[np.int16], trace: Trace) -> NDArray[np.int16]:
    """Bring class indices (Z, Y, X) at the planned spacing back to the grid of the stored image; background outside the crop.

    Raises:
        ValueError: the labels do not have the trace's shape.
    """
    _check_shape(labels.shape, trace)
    if trace.box.shape != trace.resampled_shape:
        from preprocessing.resample import resample_labels

        labels = resample_labels(labels, trace.box.shape, trace.separate_axis)
    return _uncrop(labels, trace, 0)


def restore_scores(
    scores: "Tensor", trace: Trace, decide: "Callable[[Tensor], Tensor] | None" = None, fill: float = 0
) -> NDArray:
    """Bring class scores at the planned spacing back to the grid of the stored image, deciding there.

    Args:
        scores: (K, Z, Y, X) on any device.
        trace: of the image.
        decide: from scores (K, z, Y, X) of a slab to (z, Y, X) or (N, z, Y, X), voxel by voxel; None takes the class
            with the highest score.
        fill: value outside the crop.

    Returns:
        The decisions on the stored grid: (Z, Y, X) or (N, Z, Y, X).

    Raises:
        ValueError: the scores do not have the trace's shape.
    """
    from preprocessing.resample import resample_scores

    _check_shape(tuple(scores.shape[1:]), trace)
    decided = resample_scores(scores, trace.box.shape, trace.separate_axis, decide or highest_score)
    return _uncrop(decided.numpy(), trace, fill)


def highest_score(scores: "Tensor") -> "Tensor":
    """Class index with the highest score: (K, Z, Y, X) to (Z, Y, X) int16."""
    return scores.argmax(0).short()


def _resample(image: NDArray[np.float32], labels: NDArray[np.int16] | None, trace: Trace) -> Preprocessed:
    if trace.box.shape == trace.resampled_shape:
        return Preprocessed(image, labels, trace)
    from preprocessing.resample import resample_image, resample_labels  # torch takes seconds to load in every process

    image = resample_image(image, trace.resampled_shape, trace.separate_axis)
    if labels is not None:
        labels = resample_labels(labels, trace.resampled_shape, trace.separate_axis)
    return Preprocessed(image, labels, trace)


def _uncrop(content: NDArray, trace: Trace, fill: float) -> NDArray:
    turned_shape = tuple(trace.stored_shape[axis] for axis in trace.orientation.axes)
    whole = trace.box.paste(content, (turned_shape[0], turned_shape[1], turned_shape[2]), fill)
    return np.ascontiguousarray(trace.orientation.invert(whole))


def _check_shape(shape: tuple[int, ...], trace: Trace) -> None:
    if shape != trace.resampled_shape:
        raise ValueError(f"shape {shape} is not that of the preprocessed image, {trace.resampled_shape}")
