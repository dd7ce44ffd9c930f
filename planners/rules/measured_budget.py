"""Choose patch and batch of `se` by the memory of the network itself, as counted by `planners.rules.memory`."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from configs.errors import counted
from configs.fingerprint import Shape
from configs.network import NetworkConfig
from planners.rules.budget import SMALLEST_BATCH
from planners.rules.patch import Grid, Sampling, choose_sampling
from planners.rules.topology import Topology

_TYPICAL_RATE = 13.5  # bytes for each feature-map value; networks that were counted take 12 to 15
_HIGHEST_RATE = 20.0  # bytes; above that of every counted network whose step takes half a GB or more
_ALIKE = 0.02  # relative difference up to which a counted rate confirms the assumed one
_TRIES = 4


@dataclass(frozen=True)
class RateBudget:
    """A memory limit in feature-map values at a known number of bytes for each."""

    values: Callable[[Topology], int]  # function that counts the feature-map values of one sample
    rate: float  # bytes for each value
    memory: float  # GPU memory in GB

    def samples(self, topology: Topology) -> int:
        """Return the number of patches of the topology that fit in one training step."""
        return int(min(self.memory, 1e6) * 1e9 / (self.values(topology) * self.rate))

    def fits(self, topology: Topology) -> bool:
        """Return whether the smallest batch fits."""
        return self.samples(topology) >= SMALLEST_BATCH

    def needs(self, sampling: Sampling) -> float:
        """Return the memory of a training step in GB."""
        return sampling.batch_size * self.values(sampling.topology) * self.rate / 1e9


def choose_measured_sampling(
    grid: Grid,
    describe: Callable[[Topology], NetworkConfig],
    values: Callable[[Topology], int],
    memory: float,
    wanted: Shape | None,
) -> Sampling:
    """Choose patch, stages and batch so that a training step of the network itself fits the memory in GB.

    Memory is nearly proportional to feature-map values. A typical rate gives a first choice; counting the memory of that network gives its
    actual rate and a new choice, until the rate settles. Counting takes seconds, so it is left out where memory suffices at any rate.
    `describe` gives the network for a topology, and `values` the feature-map values of one sample.

    Raises:
        InputError: the strides do not divide the wanted patch, or nothing fits the memory.
    """
    largest = choose_sampling(grid, RateBudget(values, _HIGHEST_RATE, math.inf), wanted)
    needed = RateBudget(values, _HIGHEST_RATE, memory).needs(largest)
    if needed <= memory:
        cap = f"Batch {largest.batch_size}: 5 % of the voxels of {counted(grid.cases, 'case')}, at least {SMALLEST_BATCH}"
        return _explained(largest, {"batch_size": f"{cap}; a training step takes less than {needed:.2g} of {memory:g} GB."})
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
    needed = f"A training step with batch {sampling.batch_size} takes {budget.needs(sampling):.2g} of {budget.memory:g} GB"
    return _explained(sampling, {"memory": f"{needed}, counted for each operator of the network in float32."})


def _explained(sampling: Sampling, reasons: dict[str, str]) -> Sampling:
    return replace(sampling, reasons=sampling.reasons | reasons)
