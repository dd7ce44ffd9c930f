"""Patch, depth and batch of one network. Rules and constants are nnU-Net's (Isensee et al. 2021)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from configs.errors import Fault, InputError, counted, times
from configs.fingerprint import Shape, Spacing
from planners.rules.budget import SMALLEST_BATCH, Budget, batch_for_dataset
from planners.rules.decision import Decision
from planners.rules.topology import Topology, choose_topology

_LARGEST_EDGE = 256  # the first guess has the volume of this cube
_LARGEST_SLICE_EDGE = 2048  # or the area of this square
_SMALLEST_PATCH = 16  # longest edge below which no network learns anything

Extent = tuple[float, float, float]


@dataclass(frozen=True)
class Grid:
    """What a configuration's patches are cut from.

    Attributes:
        spacing: mm (Z, Y, X).
        median: voxels of the median case; a half where an even number of cases ties.
        cases: training cases.
        voxels: of the median case, where they are not the product of `median`, which may be rounded.
        slice_axis: the axis across slices, for networks that see one slice.
    """

    spacing: Spacing
    median: Extent
    cases: int
    voxels: float | None = None
    slice_axis: int | None = None

    @property
    def axes(self) -> list[int]:
        """Axes that a patch extends along, the coarsest first."""
        coarsest = max(range(3), key=lambda axis: (self.spacing[axis], -axis))
        kept = [axis for axis in range(3) if axis != self.slice_axis]
        return sorted(kept, key=lambda axis: (axis != coarsest, axis))

    @property
    def median_voxels(self) -> float:
        """Voxels of the median case."""
        return math.prod(self.median) if self.voxels is None else self.voxels

    @property
    def dataset_voxels(self) -> float:
        """Voxels of all cases, about."""
        return self.median_voxels * self.cases

    def topology(self, patch_size: Sequence[float]) -> Topology:
        """Stages for a patch."""
        return choose_topology(self.spacing, patch_size, self.slice_axis)

    def share(self, patch_size: Sequence[int]) -> float:
        """The share of the median case, or of its slice, that a patch covers."""
        return math.prod(patch_size[axis] for axis in self.axes) / math.prod(self.median[axis] for axis in self.axes)


@dataclass(frozen=True)
class Sampling:
    """What one training step sees, and the network's stages that go with it."""

    topology: Topology
    patch_size: Shape
    batch_size: int
    reasons: dict[str, str]


def choose_sampling(grid: Grid, budget: Budget, wanted: Shape | None) -> Sampling:
    """Choose patch, stages and batch.

    Args:
        grid: what patches are cut from.
        budget: what limits them.
        wanted: patch that the user asks for, or None.

    Raises:
        InputError: the wanted patch does not suit the network's strides, or nothing fits the memory.
    """
    patch = _wanted_patch(grid, budget, wanted) if wanted else _largest_patch(grid, budget)
    topology = patch.value
    batch = _choose_batch(grid, topology, budget)
    reasons = {"patch_size": patch.reason, "stages": _stages_reason(topology), "batch_size": batch.reason}
    return Sampling(topology, topology.patch_size, batch.value, reasons)


def _largest_patch(grid: Grid, budget: Budget) -> Decision[Topology]:
    """Start from 256^3 voxels of equal edge in mm within the median case; shorten the relatively longest axis until it fits.

    Slices start from 2048^2.
    """
    start = topology = grid.topology(_first_guess(grid))
    while not budget.fits(topology):
        topology = _shorten(grid, topology, budget.memory)
    median = times(1 if axis == grid.slice_axis else size for axis, size in enumerate(grid.median))
    of = "case" if grid.slice_axis is None else "slice"
    reason = f"Patch {times(topology.patch_size)} because the median {of} has {median} voxels"
    if start.patch_size == topology.patch_size:
        reason += ", padded to what the strides divide"
    else:
        share = grid.share(topology.patch_size)
        reason += f"; {times(start.patch_size)} was shortened to fit {budget.memory:g} GB and covers {share:.0%} of it"
    return Decision(topology, reason + ".")


def _first_guess(grid: Grid) -> list[float]:
    longest = _LARGEST_EDGE if grid.slice_axis is None else _LARGEST_SLICE_EDGE
    dimensions = len(grid.axes)
    edge = longest * math.prod(grid.spacing[axis] for axis in grid.axes) ** (1 / dimensions)
    return [min(float(round(edge / grid.spacing[axis])), grid.median[axis]) if axis in grid.axes else 1.0 for axis in range(3)]


def _shorten(grid: Grid, topology: Topology, memory: float) -> Topology:
    """Shorten the axis that is longest relative to the median case by one total stride, that of the shorter patch's network.

    Where axes tie, the last one in the order of `grid.axes`.
    """
    patch = topology.patch_size
    axis = max(reversed(grid.axes), key=lambda candidate: patch[candidate] / grid.median[candidate])
    if max(patch) < _SMALLEST_PATCH or patch[axis] <= topology.total_stride[axis]:
        raise InputError(_no_room(memory, topology))
    step = grid.topology(_less(patch, axis, topology.total_stride[axis])).total_stride[axis]
    return grid.topology(_less(patch, axis, step))


def _less(patch: Shape, axis: int, step: int) -> list[int]:
    return [size - step if index == axis else size for index, size in enumerate(patch)]


def _wanted_patch(grid: Grid, budget: Budget, wanted: Shape) -> Decision[Topology]:
    topology = grid.topology(wanted)
    option = f"--patch-size {' '.join(map(str, wanted))}"
    if topology.patch_size != wanted:
        problem = (
            f"at this spacing the network halves the axes to strides of {times(topology.total_stride)}, which do not divide it"
        )
        remedy = f"Use {' '.join(map(str, topology.patch_size))}, or other multiples of the strides"
        raise InputError(Fault(option, problem, remedy))
    if not budget.fits(topology):
        problem = f"two patches of this size do not fit a training step in {budget.memory:g} GB"
        raise InputError(Fault(option, problem, "Use a smaller patch, or give more --gpu-memory"))
    return Decision(topology, f"Patch {times(wanted)} as asked for.")


def _stages_reason(topology: Topology) -> str:
    return (
        f"{counted(len(topology.strides), 'stage')} with total stride {times(topology.total_stride)}: every axis is halved while "
        "it has at least 8 voxels and its spacing is within a factor of 2 of the finest."
    )


def _choose_batch(grid: Grid, topology: Topology, budget: Budget) -> Decision[int]:
    memory = budget.samples(topology)
    dataset = batch_for_dataset(grid.dataset_voxels, topology.patch_size)
    batch = max(min(memory, dataset), SMALLEST_BATCH)
    cases = counted(grid.cases, "case")
    reason = f"Batch {batch}: {memory} would fit {budget.memory:g} GB, and 5 % of the voxels of {cases} are {dataset}"
    if batch > min(memory, dataset):
        reason += f"; {SMALLEST_BATCH} is the smallest that is used"
    return Decision(batch, reason + ".")


def _no_room(memory: float, topology: Topology) -> Fault:
    problem = f"not even a patch of {times(topology.patch_size)} fits"
    return Fault(f"--gpu-memory {memory:g}", problem, "Give more memory, or a patch with --patch-size")
