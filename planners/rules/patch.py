"""Choose patch, stages and batch of a network. Rules and constants are nnU-Net's (Isensee et al. 2021)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from configs.errors import Fault, InputError, counted, times
from configs.fingerprint import Shape, Spacing
from planners.decision import Decision
from planners.rules.budget import SMALLEST_BATCH, Budget, batch_for_dataset
from planners.rules.topology import Topology, choose_topology

_LARGEST_EDGE = 256  # the first guess has the volume of a cube with this edge
_LARGEST_SLICE_EDGE = 2048  # for slices, it has the area of a square with this edge
_SMALLEST_PATCH = 16  # a network cannot learn from a patch whose longest edge is shorter

MedianShape = tuple[float, float, float]


@dataclass(frozen=True)
class Grid:
    """The grid that the patches of a configuration are cut from."""

    spacing: Spacing  # mm (Z, Y, X)
    median: MedianShape  # voxels (Z, Y, X) of the median case, possibly half-integer
    cases: int  # number of training cases
    voxels: float | None = None  # voxels of the median case, or None for the product of `median`, which may be rounded
    slice_axis: int | None = None  # axis across slices, for networks that see single slices

    @property
    def axes(self) -> list[int]:
        """Axes along which a patch extends, the coarsest first."""
        coarsest = max(range(3), key=lambda axis: (self.spacing[axis], -axis))
        kept = [axis for axis in range(3) if axis != self.slice_axis]
        return sorted(kept, key=lambda axis: (axis != coarsest, axis))

    @property
    def median_voxels(self) -> float:
        """Voxels of the median case."""
        return math.prod(self.median) if self.voxels is None else self.voxels

    @property
    def dataset_voxels(self) -> float:
        """Approximate number of voxels of all cases."""
        return self.median_voxels * self.cases

    def topology(self, patch_size: Sequence[float]) -> Topology:
        """Return the stages of a network for a patch."""
        return choose_topology(self.spacing, patch_size, self.slice_axis)

    def share(self, patch_size: Sequence[int]) -> float:
        """Return the share of the median case, or of its slice, that a patch covers."""
        return math.prod(patch_size[axis] for axis in self.axes) / math.prod(self.median[axis] for axis in self.axes)


@dataclass(frozen=True)
class Sampling:
    """Patch and batch of a training step, with the stages of the network."""

    topology: Topology
    patch_size: Shape
    batch_size: int
    reasons: dict[str, str]


def choose_sampling(grid: Grid, budget: Budget, wanted: Shape | None) -> Sampling:
    """Choose patch, stages and batch within the limit of a training step; `wanted` is a patch requested by the user, or None.

    Raises:
        InputError: the strides do not divide the wanted patch, or nothing fits the memory.
    """
    patch = _wanted_patch(grid, budget, wanted) if wanted else _largest_patch(grid, budget)
    topology = patch.value
    batch = _choose_batch(grid, topology, budget)
    reasons = {"patch_size": patch.reason, "stages": _stages_reason(topology), "batch_size": batch.reason}
    return Sampling(topology, topology.patch_size, batch.value, reasons)


def _largest_patch(grid: Grid, budget: Budget) -> Decision[Topology]:
    """Start from 256^3 voxels (slices from 2048^2) with equal edges in mm, within the median case, and shorten the patch until it fits."""
    start = topology = grid.topology(_first_guess(grid))
    while not budget.fits(topology):
        topology = _shorten(grid, topology, budget.memory)
    median = times(1 if axis == grid.slice_axis else size for axis, size in enumerate(grid.median))
    of = "case" if grid.slice_axis is None else "slice"
    reason = f"Patch {times(topology.patch_size)}: the median {of} has {median} voxels"
    if start.patch_size == topology.patch_size:
        reason += ", padded to multiples of the strides"
    else:
        share = grid.share(topology.patch_size)
        reason += (
            f"; the patch was shortened from {times(start.patch_size)} to fit {budget.memory:g} GB and covers {share:.0%} of it"
        )
    return Decision(topology, reason + ".")


def _first_guess(grid: Grid) -> list[float]:
    longest = _LARGEST_EDGE if grid.slice_axis is None else _LARGEST_SLICE_EDGE
    dimensions = len(grid.axes)
    edge = longest * math.prod(grid.spacing[axis] for axis in grid.axes) ** (1 / dimensions)
    return [min(float(round(edge / grid.spacing[axis])), grid.median[axis]) if axis in grid.axes else 1.0 for axis in range(3)]


def _shorten(grid: Grid, topology: Topology, memory: float) -> Topology:
    """Shorten the axis that is longest relative to the median case by one total stride of the network for the shorter patch.

    Of axes that are equally long, the last in the order of `grid.axes` is shortened.
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
            f"at this spacing the network has total strides of {times(topology.total_stride)}, which do not divide the patch"
        )
        remedy = f"Use {' '.join(map(str, topology.patch_size))}, or other multiples of the strides"
        raise InputError(Fault(option, problem, remedy))
    if not budget.fits(topology):
        problem = f"a training step with two patches of this size does not fit in {budget.memory:g} GB"
        raise InputError(Fault(option, problem, "Use a smaller patch or a larger --gpu-memory"))
    return Decision(topology, f"Patch {times(wanted)}, as requested.")


def _stages_reason(topology: Topology) -> str:
    return (
        f"{counted(len(topology.strides), 'stage')} with total stride {times(topology.total_stride)}: each axis is halved while it has at "
        "least 8 voxels and its spacing is less than twice the finest."
    )


def _choose_batch(grid: Grid, topology: Topology, budget: Budget) -> Decision[int]:
    memory = budget.samples(topology)
    dataset = batch_for_dataset(grid.dataset_voxels, topology.patch_size)
    batch = max(min(memory, dataset), SMALLEST_BATCH)
    cases = counted(grid.cases, "case")
    reason = f"Batch {batch}: {memory} patches would fit {budget.memory:g} GB, and {dataset} hold 5 % of the voxels of {cases}"
    if batch > min(memory, dataset):
        reason += f"; the smallest batch is {SMALLEST_BATCH}"
    return Decision(batch, reason + ".")


def _no_room(memory: float, topology: Topology) -> Fault:
    problem = f"not even a patch of {times(topology.patch_size)} fits into this memory"
    return Fault(f"--gpu-memory {memory:g}", problem, "Give more memory, or choose a patch with --patch-size")
