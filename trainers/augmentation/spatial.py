"""Rotate, scale and mirror patches. Drawing is separate from applying, so that a draw can be replayed.

A patch is sampled by a linear map about its centre: source = centre + M (output - centre), in voxels (Z, Y, X). Probabilities
and ranges are nnU-Net's; as in nnU-Net, angles are measured on the voxel grid.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Range = tuple[float, float]
Triple = tuple[int, int, int]

P_ROTATION = 0.2
P_MIRROR = 0.5
_QUARTER_TURNS = (-math.pi, math.pi)
_FLAT = 3  # a patch this much wider than high is rotated only within its slices
_ELONGATED = 1.5  # a single slice this much longer than wide is rotated little, to stay inside the image


@dataclass(frozen=True)
class SpatialRanges:
    """Ranges of the random spatial transforms."""

    angles: tuple[Range, Range, Range]  # ranges of the rotation about Z, Y and X in radians; (0, 0) disables one
    scaling: Range | None  # range of the scale factor, below 1 the content grows; None disables scaling
    scaling_probability: float = 0.2  # share of the patches that are scaled
    scaled_axes: tuple[int, ...] = (0, 1, 2)  # axes to scale, indices into (Z, Y, X)
    mirror_axes: tuple[int, ...] = (0, 1, 2)  # axes to mirror, indices into (Z, Y, X)


@dataclass(frozen=True)
class SpatialDraw:
    """Spatial transform drawn for one patch.

    Attributes:
        matrix: linear map (3, 3) from output to source voxels about the patch centre; None is the identity.
        mirrored: axes to reverse, indices into (Z, Y, X).
    """

    matrix: NDArray[np.float64] | None
    mirrored: tuple[int, ...]


def flat_axis(patch_size: Triple) -> int | None:
    """Return the through-plane axis of a patch so flat that nnU-Net's rule transforms it slice by slice; None for other patches."""
    axis = patch_size.index(min(patch_size))
    return axis if max(patch_size) / patch_size[axis] > _FLAT else None


def spatial_ranges(
    patch_size: Triple, scaling: Range | None, mirror_axes: tuple[int, ...], scaling_probability: float = 0.2
) -> SpatialRanges:
    """Return the ranges for a patch: 30 degrees about each axis, or any angle within the slices of a flat patch."""
    across = flat_axis(patch_size)
    if across is None:
        tilt = (-math.pi / 6, math.pi / 6)
        return SpatialRanges((tilt, tilt, tilt), scaling, scaling_probability, mirror_axes=mirror_axes)
    within = [axis for axis in range(3) if axis != across]
    sizes = [patch_size[axis] for axis in within]
    is_elongated_slice = patch_size[across] == 1 and max(sizes) / min(sizes) > _ELONGATED
    turn = (-math.pi / 12, math.pi / 12) if is_elongated_slice else _QUARTER_TURNS
    z, y, x = [turn if axis == across else (0.0, 0.0) for axis in range(3)]
    return SpatialRanges((z, y, x), scaling, scaling_probability, tuple(within), mirror_axes)


def draw_spatial(random: Generator, ranges: SpatialRanges) -> SpatialDraw:
    """Draw rotation (with probability 0.2), scaling (0.2 unless planned otherwise) and mirroring (each axis with probability 0.5)."""
    matrix = np.eye(3)
    turned = random.random() < P_ROTATION
    if turned:
        matrix = rotation_matrix(*(random.uniform(*limits) for limits in ranges.angles))
    scaled = ranges.scaling is not None and random.random() < ranges.scaling_probability
    if ranges.scaling is not None and scaled:
        factors = np.ones(3)
        factors[list(ranges.scaled_axes)] = draw_factor(random, ranges.scaling)
        matrix = np.diag(factors) @ matrix
    mirrored = tuple(axis for axis in ranges.mirror_axes if random.random() < P_MIRROR)
    return SpatialDraw(matrix if turned or scaled else None, mirrored)


def draw_factor(random: Generator, limits: Range) -> float:
    """Draw a factor, below 1 as often as above, uniform on either side (nnU-Net's rule)."""
    low, high = limits
    if low < 1 and (high <= 1 or random.random() < 0.5):
        return float(random.uniform(low, min(1.0, high)))
    return float(random.uniform(max(1.0, low), high))


def rotation_matrix(about_z: float, about_y: float, about_x: float) -> NDArray[np.float64]:
    """Return the matrix (3, 3) that rotates (Z, Y, X) vectors by angles in radians, first about X, then Y, then Z."""
    matrix = np.eye(3)
    for angle, (first, second) in ((about_x, (0, 1)), (about_y, (0, 2)), (about_z, (1, 2))):
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = math.cos(angle)
        turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
        matrix = turn @ matrix
    return matrix


def source_box(start: Triple, patch_size: Triple, matrix: NDArray[np.float64]) -> tuple[Triple, Triple]:
    """Return the first voxel and size of the box that holds every source voxel of a patch."""
    half = (np.array(patch_size) - 1) / 2
    reach = np.abs(matrix) @ half
    centre = np.array(start) + half
    low = np.floor(centre - reach + 1e-6).astype(int)
    high = np.ceil(centre + reach - 1e-6).astype(int)
    size = high - low + 1
    return (int(low[0]), int(low[1]), int(low[2])), (int(size[0]), int(size[1]), int(size[2]))


def transform(
    image: NDArray[np.float32],
    labels: NDArray[np.int16],
    box_start: Triple,
    start: Triple,
    patch_size: Triple,
    matrix: NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Sample a patch from the box around it: the image trilinearly, labels by the largest trilinear share of a class.

    Image (C, *box) and class indices (*box) come from the box that `source_box` gives, and become (C, *patch_size) and (*patch_size).
    `box_start` and `start` are the first voxels of box and patch in the case, `matrix` is the linear map (3, 3) of a `SpatialDraw`.
    """
    grid = _sampling_grid(labels.shape, np.array(start) - np.array(box_start), patch_size, matrix)
    return sample(torch.from_numpy(image)[None], grid)[0].numpy(), _sample_one(labels, grid, patch_size)


def transform_labels(
    labels: NDArray[np.int16], box_start: Triple, start: Triple, patch_size: Triple, matrix: NDArray[np.float64]
) -> NDArray[np.int16]:
    """Sample labels as `transform` does."""
    grid = _sampling_grid(labels.shape, np.array(start) - np.array(box_start), patch_size, matrix)
    return _sample_one(labels, grid, patch_size)


def _sample_one(labels: NDArray[np.int16], grid: Tensor, patch_size: Triple) -> NDArray[np.int16]:
    if labels.min() == labels.max():  # as in most patches of background
        return np.full(patch_size, labels.min(), labels.dtype)
    return sample_labels(torch.from_numpy(labels)[None], grid)[0].numpy()


def sample_labels(labels: Tensor, grid: Tensor) -> Tensor:
    """Sample class indices (B, *box) to (B, *patch): the class with the largest trilinear share, the lower index of a tie."""
    best = torch.full((len(labels), *grid.shape[1:4]), -1.0, device=labels.device)
    chosen = torch.zeros_like(best, dtype=labels.dtype)
    for index in labels.unique().tolist():
        share = sample((labels == index).float()[:, None], grid)[:, 0]
        better = share > best
        best = torch.where(better, share, best)
        chosen[better] = index
    return chosen


def mirror(volume: NDArray, axes: tuple[int, ...]) -> NDArray:
    """Reverse axes, indices into (Z, Y, X), of an array (..., Z, Y, X)."""
    return np.flip(volume, tuple(axis - 3 for axis in axes)) if axes else volume


def _sampling_grid(box: tuple[int, ...], start: NDArray[np.int_], patch_size: Triple, matrix: NDArray[np.float64]) -> Tensor:
    """Return source positions (1, Z, Y, X, 3), ordered (x, y, z) and scaled to -1..1 over the box, as `grid_sample` expects."""
    half = (np.array(patch_size) - 1) / 2
    axes = [torch.arange(size, dtype=torch.float32) - (size - 1) / 2 for size in patch_size]
    offsets = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    source = offsets @ torch.from_numpy(matrix.T).float() + torch.from_numpy(start + half).float()
    last = torch.tensor([max(size - 1, 1) for size in box], dtype=torch.float32)
    return (source * (2 / last) - 1).flip(-1)[None]


def sample(volumes: Tensor, grid: Tensor) -> Tensor:
    """Sample (B, C, *box) trilinearly at the grid positions (B, Z, Y, X, 3), which gives (B, C, Z, Y, X)."""
    return functional.grid_sample(volumes, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
