"""Patch, depth and batch of one network. Rules and constants are nnU-Net's (Isensee et al. 2021)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from configs.errors import Fault, InputError
from configs.fingerprint import Shape, Spacing
from planners.budget import allowed_values, batch_for_dataset, batch_for_memory, feature_values
from planners.decision import Decision, counted, times
from planners.topology import Topology, choose_topology

_LARGEST_EDGE = 256  # the first guess has the volume of this cube
_SMALLEST_BATCH = 2
_SMALLEST_PATCH = 16  # longest edge below which no network learns anything

Features = Callable[[int], Sequence[int]]
Extent = tuple[float, float, float]


@dataclass(frozen=True)
class Sampling:
    """What one training step sees, and the network's stages that go with it."""

    topology: Topology
    patch_size: Shape
    batch_size: int
    reasons: dict[str, str]


@dataclass(frozen=True)
class Budget:
    """What limits patch and batch.

    Attributes:
        features: from the number of stages to the channels of each, scales counted as channels.
        outputs: classes or regions.
        gpu_memory: GB.
        cases: training cases.
    """

    features: Features
    outputs: int
    gpu_memory: float
    cases: int

    def values(self, topology: Topology) -> int:
        """Feature-map values of one sample of the topology's patch."""
        return feature_values(topology, topology.patch_size, self.features(len(topology.strides)), self.outputs)


def choose_sampling(spacing: Spacing, median: Extent, budget: Budget, wanted: Shape | None) -> Sampling:
    """Choose patch, stages and batch.

    Args:
        spacing: of the planned grid, mm.
        median: voxels of the median case.
        budget: what limits them.
        wanted: patch that the user asks for, or None.

    Raises:
        InputError: the wanted patch does not suit the network's strides.
    """
    patch = _wanted_patch(spacing, wanted) if wanted else _largest_patch(spacing, median, budget)
    topology = patch.value
    batch = _choose_batch(topology, median, budget)
    stages = (
        f"{len(topology.strides)} stages with total stride {times(topology.total_stride)}: every axis is halved while it has at "
        f"least 8 voxels and its spacing is within a factor of 2 of the finest."
    )
    return Sampling(
        topology, topology.patch_size, batch.value, {"patch_size": patch.reason, "stages": stages, "batch_size": batch.reason}
    )


def _largest_patch(spacing: Spacing, median: Extent, budget: Budget) -> Decision[Topology]:
    """Start from 256^3 voxels of equal edge in mm within the median case; shorten the relatively longest axis until it fits."""
    edge = (_LARGEST_EDGE**3 * math.prod(spacing)) ** (1 / 3)
    first = [min(float(round(edge / size)), limit) for size, limit in zip(spacing, median, strict=True)]
    start = topology = choose_topology(spacing, first)
    while budget.values(topology) > allowed_values(budget.gpu_memory):
        topology = _shorten(spacing, topology, median, budget)
    share = math.prod(topology.patch_size) / math.prod(median)
    reason = f"Patch {times(topology.patch_size)} because the median case has {times(median)} voxels"
    if start.patch_size == topology.patch_size:
        reason += ", padded to what the strides divide"
    else:
        reason += f"; {times(start.patch_size)} was shortened to fit {budget.gpu_memory:g} GB and covers {share:.0%} of it"
    return Decision(topology, reason + ".")


def _shorten(spacing: Spacing, topology: Topology, median: Extent, budget: Budget) -> Topology:
    """Shorten the axis that is longest relative to the median case by one total stride, that of the shorter patch's network."""
    relative = [size / limit for size, limit in zip(topology.patch_size, median, strict=True)]
    axis = max(range(3), key=lambda candidate: (relative[candidate], candidate))
    if max(topology.patch_size) < _SMALLEST_PATCH or topology.patch_size[axis] <= topology.total_stride[axis]:
        raise InputError(_no_room(budget.gpu_memory, topology))
    step = choose_topology(spacing, _less(topology.patch_size, axis, topology.total_stride[axis])).total_stride[axis]
    return choose_topology(spacing, _less(topology.patch_size, axis, step))


def _less(patch: Shape, axis: int, step: int) -> list[int]:
    return [size - step if index == axis else size for index, size in enumerate(patch)]


def _wanted_patch(spacing: Spacing, wanted: Shape) -> Decision[Topology]:
    topology = choose_topology(spacing, wanted)
    if topology.patch_size != wanted:
        problem = (
            f"at this spacing the network halves the axes to strides of {times(topology.total_stride)}, which do not divide it"
        )
        remedy = f"Use {' '.join(map(str, topology.patch_size))}, or other multiples of the strides"
        raise InputError(Fault(f"--patch-size {' '.join(map(str, wanted))}", problem, remedy))
    return Decision(topology, f"Patch {times(wanted)} as asked for.")


def _choose_batch(topology: Topology, median: Extent, budget: Budget) -> Decision[int]:
    memory = batch_for_memory(budget.values(topology), budget.gpu_memory)
    dataset = batch_for_dataset(math.prod(median) * budget.cases, topology.patch_size)
    batch = max(min(memory, dataset), _SMALLEST_BATCH)
    cases = counted(budget.cases, "case")
    reason = f"Batch {batch}: {memory} would fit {budget.gpu_memory:g} GB, and 5 % of the voxels of {cases} are {dataset}"
    if batch > min(memory, dataset):
        reason += f"; {_SMALLEST_BATCH} is the smallest that is used"
    return Decision(batch, reason + ".")


def _no_room(gpu_memory: float, topology: Topology) -> Fault:
    problem = f"not even a patch of {times(topology.patch_size)} fits"
    return Fault(f"--gpu-memory {gpu_memory:g}", problem, "Give more memory, or a patch with --patch-size")
