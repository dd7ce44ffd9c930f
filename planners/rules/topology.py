"""Choose the strides and kernels of a U-Net by spacing and patch. Rules and constants are nnU-Net's (Isensee et al. 2021)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from configs.fingerprint import Shape
from configs.network import Axes

_SMALLEST_EDGE = 4  # voxels along an axis at the coarsest stage
_SAME_RESOLUTION = 2  # axes that are coarser than the finest by less than this factor are treated alike


@dataclass(frozen=True)
class Topology:
    """Stages of a U-Net."""

    strides: tuple[Axes, ...]  # strides of each stage; those of the first are 1
    kernels: tuple[Axes, ...]  # kernel size of each stage; 1 along an axis that is still much coarser than the others
    patch_size: Shape  # wanted patch, padded to multiples of the total stride

    @property
    def total_stride(self) -> Axes:
        """Ratio between the finest and the coarsest grid along each axis."""
        z, y, x = (math.prod(stride[axis] for stride in self.strides) for axis in range(3))
        return z, y, x


def choose_topology(spacing: Sequence[float], patch_size: Sequence[float], slice_axis: int | None = None) -> Topology:
    """Halve axes stage by stage while they are long enough, given spacing in mm and patch size in voxels (Z, Y, X).

    An axis is halved while it has at least 2 x 4 voxels and its spacing is less than twice that of the finest axis that can be halved; a
    single remaining axis needs at least 3 x 4 voxels. Kernels have one voxel along an axis until its spacing is less than twice the finest,
    then three; the coarsest stage has three along every axis. For a network that sees single slices, the patch has one voxel along
    `slice_axis`.
    """
    sizes = [1 if axis == slice_axis else size for axis, size in enumerate(patch_size)]
    lengths = [math.inf if axis == slice_axis else length for axis, length in enumerate(spacing)]
    strides: list[Axes] = [(1, 1, 1)]
    kernels: list[Axes] = []
    kernel: Axes = (1, 1, 1)
    while halved := _axes_to_halve(sizes, lengths):
        kernel = _kernel(kernel, lengths)
        kernels.append(kernel)
        strides.append(_stride(halved))
        for axis in halved:
            sizes[axis] = math.ceil(sizes[axis] / 2)
            lengths[axis] *= 2
    kernels.append(_last_kernel(slice_axis))
    total = Topology(tuple(strides), tuple(kernels), (1, 1, 1)).total_stride
    wanted = [1 if axis == slice_axis else size for axis, size in enumerate(patch_size)]
    z, y, x = (math.ceil(size / stride) * stride for size, stride in zip(wanted, total, strict=True))
    return Topology(tuple(strides), tuple(kernels), (z, y, x))


def _axes_to_halve(sizes: Sequence[float], lengths: Sequence[float]) -> list[int]:
    long_enough = [axis for axis in range(3) if sizes[axis] >= 2 * _SMALLEST_EDGE]
    if not long_enough:
        return []
    finest = min(lengths[axis] for axis in long_enough)
    alike = [axis for axis in long_enough if lengths[axis] / finest < _SAME_RESOLUTION]
    if len(alike) == 1 and sizes[alike[0]] < 3 * _SMALLEST_EDGE:
        return []
    return alike


def _kernel(previous: Axes, lengths: Sequence[float]) -> Axes:
    finest = min(lengths)
    z, y, x = (
        3 if size == 3 or length / finest < _SAME_RESOLUTION else 1 for size, length in zip(previous, lengths, strict=True)
    )
    return z, y, x


def _last_kernel(slice_axis: int | None) -> Axes:
    z, y, x = (1 if axis == slice_axis else 3 for axis in range(3))
    return z, y, x


def _stride(halved: Sequence[int]) -> Axes:
    z, y, x = (2 if axis in halved else 1 for axis in range(3))
    return z, y, x
