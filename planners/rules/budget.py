"""How much memory and how much of the dataset a training step may take. Rules and constants: nnU-Net (Isensee et al. 2021).

Memory is judged by the number of values in all feature maps of one sample, against a reference network that fills a GPU.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from configs.fingerprint import Shape
from planners.rules.skeleton import Skeleton
from planners.rules.topology import Topology

SMALLEST_BATCH = 2
_DATASET_SHARE = 0.05


class Budget(Protocol):
    """What a training step may take."""

    @property
    def memory(self) -> float:
        """GB."""
        ...

    def samples(self, topology: Topology) -> int:
        """Samples of the topology's patch that fit in one training step."""
        ...

    def fits(self, topology: Topology) -> bool:
        """Whether the smallest batch fits."""
        ...


@dataclass(frozen=True)
class FeatureBudget:
    """Judges memory by feature-map values, as nnU-Net does.

    Attributes:
        skeleton: with the values of a network that fills its memory.
        outputs: classes or regions.
        memory: GB.
    """

    skeleton: Skeleton
    outputs: int
    memory: float

    @property
    def allowed(self) -> float:
        """Values of one sample at the reference batch."""
        return self.skeleton.reference.values * self.memory / self.skeleton.reference.memory

    def samples(self, topology: Topology) -> int:
        """Samples of the topology's patch that fit in one training step, rounded."""
        return round(self.allowed / self._values(topology) * self.skeleton.reference.batch)

    def fits(self, topology: Topology) -> bool:
        """Whether a batch of two fits."""
        return self._values(topology) / self.skeleton.reference.batch * SMALLEST_BATCH <= self.allowed

    def _values(self, topology: Topology) -> int:
        return feature_values(self.skeleton, topology, self.skeleton.features(len(topology.strides)), self.outputs)


def feature_values(skeleton: Skeleton, topology: Topology, features: Sequence[int], outputs: int) -> int:
    """Values in the feature maps of one sample: convolutions, shortcuts, upsampling and class scores.

    Args:
        skeleton: its blocks.
        topology: strides of each stage, and the patch.
        features: channels of each stage, scales counted as channels.
        outputs: classes or regions.
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
    """Patches that make up 5 % of the dataset's voxels: larger batches would see the same voxels again and again."""
    return round(dataset_voxels * _DATASET_SHARE / math.prod(patch_size))
