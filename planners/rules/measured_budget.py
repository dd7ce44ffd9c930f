"""Patch and batch of `se` by the memory that its own network takes, counted by `planners.rules.memory`."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from configs.errors import counted
from configs.fingerprint import Shape
from configs.network import NetworkConfig
from planners.rules.budget import SMALLEST_BATCH
from planners.rules.patch import Grid, Sampling, choose_sampling
from planners.rules.topology import Topology

_TYPICAL_RATE = 13.5  # bytes for each feature-map value: 12 to 15 of all networks that were counted
_HIGHEST_RATE = 20.0  # more than any of them whose step takes half a GB or more
_ALIKE = 0.02
_TRIES = 4


@dataclass(frozen=True)
class RateBudget:
    """Judges memory by feature-map values at a known rate.

    Attributes:
        values: feature-map values of one sample.
        rate: bytes for each of them.
        memory: GB.
    """

    values: Callable[[Topology], int]
    rate: float
    memory: float

    def samples(self, topology: Topology) -> int:
        """Samples of the topology's patch that fit in one training step."""
        return int(min(self.memory, 1e6) * 1e9 / (self.values(topology) * self.rate))

    def fits(self, topology: Topology) -> bool:
        """Whether the smallest batch fits."""
        return self.samples(topology) >= SMALLEST_BATCH

    def needs(self, sampling: Sampling) -> float:
        """GB of a training step."""
        return sampling.batch_size * self.values(sampling.topology) * self.rate / 1e9


def choose_measured_sampling(
    grid: Grid,
    describe: Callable[[Topology], NetworkConfig],
    values: Callable[[Topology], int],
    memory: float,
    wanted: Shape | None,
) -> Sampling:
    """Choose patch, stages and batch so that a training step of the network itself fits.

    Memory is nearly proportional to feature-map values. A typical rate gives a first choice; its network is then counted, which gives
    its own rate, until the choice stays. Where memory is plenty at any rate nothing is counted, as that takes seconds.

    Args:
        grid: what patches are cut from.
        describe: the network for a topology.
        values: feature-map values of one sample.
        memory: GB.
        wanted: patch that the user asks for, or None.

    Raises:
        InputError: the wanted patch does not suit the network's strides, or nothing fits the memory.
    """
    largest = choose_sampling(grid, RateBudget(values, _HIGHEST_RATE, math.inf), wanted)
    needed = RateBudget(values, _HIGHEST_RATE, memory).needs(largest)
    if needed <= memory:
        cap = f"Batch {largest.batch_size}: 5 % of the voxels of {counted(grid.cases, 'case')}, or the smallest that is used"
        return _explained(largest, {"batch_size": f"{cap}; a training step holds less than {needed:.2g} of {memory:g} GB."})
    return _by_counting(grid, describe, RateBudget(values, _TYPICAL_RATE, memory), wanted)


def _by_counting(grid: Grid, describe: Callable[[Topology], NetworkConfig], budget: RateBudget, wanted: Shape | None) -> Sampling:
    from planners.rules.memory import training_bytes  # torch takes seconds to load

    highest = 0.0
    for attempt in range(_TRIES):
        sampling = choose_sampling(grid, budget, wanted)
        step = training_bytes(describe(sampling.topology), sampling.patch_size, SMALLEST_BATCH)
        rate = step / (SMALLEST_BATCH * budget.values(sampling.topology))
        highest = max(highest, rate)
        settled = abs(rate - budget.rate) <= _ALIKE * budget.rate
        budget = replace(budget, rate=highest if attempt else rate)
        if settled:
            break
    sampling = choose_sampling(grid, budget, wanted)
    held = f"A training step of {sampling.batch_size} holds {budget.needs(sampling):.2g} of {budget.memory:g} GB"
    return _explained(sampling, {"memory": f"{held}, counted operator by operator on the network's shapes, in float32."})


def _explained(sampling: Sampling, reasons: dict[str, str]) -> Sampling:
    return replace(sampling, reasons=sampling.reasons | reasons)
