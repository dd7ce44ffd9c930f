"""Turn a stored image into the network's input: orientation, crop to nonzero, normalisation, resampling.

`inference.engine.assemble` brings segmentations back to the stored image's grid.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from configs.errors import raise_faults
from configs.files import Value
from configs.fingerprint import Shape, Spacing
from configs.plan import ConfigurationPlan, Orientation, Resampling
from preprocessing.geometry.affine import Affine, Geometry
from preprocessing.geometry.cropping import Box, nonzero_box
from preprocessing.geometry.orientation import Turn, find_turn
from preprocessing.geometry.resampled_grid import find_separate_axis, resampled_shape
from preprocessing.normalise import colour_faults, normalise
from preprocessing.parallel.memory import size_faults


class Trace(Value):
    """Record of what preprocessing did to the geometry of one image, sufficient for the exact inverse."""

    stored_shape: Shape  # shape (Z, Y, X) of the stored image in voxels
    stored_affine: Affine  # affine of the stored image, from voxel indices (x, y, z) to RAS+ mm
    orientation: Turn  # how the stored array was turned
    box: Box  # box of the turned array that was kept
    spacing: Spacing  # spacing (Z, Y, X) of the turned array in mm
    resampled_shape: Shape  # shape (Z, Y, X) at the planned spacing in voxels
    resampled_spacing: Spacing  # planned spacing (Z, Y, X) in mm
    separate_axis: int | None  # axis of the turned array resampled by nearest neighbours, or None

    @model_validator(mode="after")
    def _geometry_is_usable(self) -> "Trace":
        Geometry.from_affine(self.stored_shape, self.stored_affine)
        return self

    @property
    def geometry(self) -> Geometry:
        """Geometry of the stored image."""
        return Geometry.from_affine(self.stored_shape, self.stored_affine)


@dataclass(frozen=True)
class Preprocessed:
    """Preprocessed arrays of one image."""

    image: NDArray[np.float32]  # normalised image (C, Z, Y, X) float32 in the plan's orientation at the planned spacing
    labels: NDArray[np.int16] | None  # class indices (Z, Y, X) int16 on the same grid, or None
    trace: Trace  # geometry trace, which leads back to the stored image


def preprocess(
    image: NDArray[np.float32],
    labels: NDArray[np.int16] | None,
    geometry: Geometry,
    configuration: ConfigurationPlan,
    orientation: Orientation = "canonical",
    where: str = "the image",
) -> Preprocessed:
    """Preprocess a stored image (C, Z, Y, X) float32, and its class indices (Z, Y, X) if there are any, as planned.

    Raises:
        InputError: the resampled image needs more memory than there is, or values do not fit their normalisation; `where` names it.
        ValueError: the number of channels differs from the plan, or an array's shape from the geometry.
    """
    if image.shape[1:] != geometry.shape or (labels is not None and labels.shape != geometry.shape):
        raise ValueError(f"image {image.shape} and labels must have the shape {geometry.shape}")
    turn = find_turn(geometry, orientation)
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
    if trace.resampled_shape != box.shape:
        raise_faults(size_faults(where, trace.resampled_shape, planned, len(image)))
    raise_faults(colour_faults(where, image, configuration.normalisation))
    cropped = None if labels is None else np.ascontiguousarray(box.crop(turn.apply(labels)), dtype=np.int16)
    return _resample(normalise(box.crop(turned), configuration.normalisation), cropped, trace, configuration.resampling)


def _resample(image: NDArray[np.float32], labels: NDArray[np.int16] | None, trace: Trace, how: Resampling) -> Preprocessed:
    if trace.box.shape == trace.resampled_shape:
        return Preprocessed(image, labels, trace)
    from preprocessing.resample import resample_image, resample_labels  # torch takes seconds to load in each process

    image = resample_image(image, trace.resampled_shape, trace.separate_axis, how=how)
    if labels is not None:
        labels = resample_labels(labels, trace.resampled_shape, trace.separate_axis)
    return Preprocessed(image, labels, trace)
