"""Limits of a training step: memory, and share of the dataset. Rules and constants are nnU-Net's (Isensee et al. 2021).

The memory estimate compares the number of values in all feature maps of one sample with that of a reference network that fills a GPU.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from configs.fingerprint import Shape
from planners.rules.networks.skeleton import Skeleton
from planners.rules.topology import Topology

SMALLEST_BATCH = 2
_DATASET_SHARE = 0.05


class Budget(Protocol):
    """Limit of a training step."""

    @property
    def memory(self) -> float:
        """GPU memory in GB."""
        ...

    def samples(self, topology: Topology) -> int:
        """Return the number of patches of the topology that fit in one training step."""
        ...

    def fits(self, topology: Topology) -> bool:
        """Return whether the smallest batch fits."""
        ...


@dataclass(frozen=True)
class FeatureBudget:
    """A memory limit in feature-map values, as in nnU-Net."""

    skeleton: Skeleton  # blocks and channels of the network, with its reference
    outputs: int  # number of classes or regions
    memory: float  # GPU memory in GB

    @property
    def allowed(self) -> float:
        """Feature-map values that one sample may have at the reference batch."""
        return self.skeleton.reference.values * self.memory / self.skeleton.reference.memory

    def samples(self, topology: Topology) -> int:
        """Return the number of patches of the topology that fit in one training step, rounded."""
        return round(self.allowed / self._values(topology) * self.skeleton.reference.batch)

    def fits(self, topology: Topology) -> bool:
        """Return whether a batch of two fits."""
        return self._values(topology) / self.skeleton.reference.batch * SMALLEST_BATCH <= self.allowed

    def _values(self, topology: Topology) -> int:
        return feature_values(self.skeleton, topology, self.skeleton.features(len(topology.strides)), self.outputs)


def feature_values(skeleton: Skeleton, topology: Topology, features: Sequence[int], outputs: int) -> int:
    """Return the number of values in the feature maps of one sample: convolutions, shortcuts, upsampling and class scores.

    `features` are the channels of each stage, where scales count as channels; `outputs` is the number of classes or regions.
    """
    stages = len(topology.strides)
    blocks = skeleton.encoder(stages)
    sizes = list(topology.patch_size)
    values = 0
    for stage, stride in enumerate(topology.strides):
        sizes = [size // step for size, step in zip(sizes, stride, strict=True)]
        # a residual block has two convolutions; a stage of them also has a shortcut, or in the first stage a stem
        maps = 2 * blocks[stage] + 1 if skeleton.block == "residual" else blocks[stage]
        maps += skeleton.decoder_blocks + 1 if stage < stages - 1 else 0
        values += maps * features[stage] * math.prod(sizes)
    return values + outputs * math.prod(topology.patch_size)


def batch_for_dataset(dataset_voxels: float, patch_size: Shape) -> int:
    """Return the number of patches that hold 5 % of the dataset's voxels; larger batches would repeat the same voxels too often."""
    return round(dataset_voxels * _DATASET_SHARE / math.prod(patch_size))
