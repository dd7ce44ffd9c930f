"""How much memory and how much of the dataset a training step may take. Rules and constants: nnU-Net (Isensee et al. 2021).

Memory is judged by the number of values in all feature maps of one sample, against a reference network that fills a GPU of 8 GB.
"""

import math
from collections.abc import Sequence

from configs.fingerprint import Shape
from planners.topology import Topology

_REFERENCE_VALUES = 560_000_000  # of a network that trains with a batch of two in 8 GB
_REFERENCE_MEMORY = 8.0  # GB
_REFERENCE_BATCH = 2
_DATASET_SHARE = 0.05
_CONVOLUTIONS = 2  # of each stage, on both sides


def feature_values(topology: Topology, patch_size: Shape, features: Sequence[int], outputs: int) -> int:
    """Values in the feature maps of one sample: convolutions, upsampling and class scores.

    Args:
        topology: strides of each stage.
        patch_size: voxels (Z, Y, X) that the strides divide.
        features: channels of each stage, scales counted as channels.
        outputs: classes or regions.
    """
    sizes = list(patch_size)
    values = 0
    for stage, (stride, channels) in enumerate(zip(topology.strides, features, strict=True)):
        sizes = [size // step for size, step in zip(sizes, stride, strict=True)]
        decoded = stage < len(features) - 1
        maps = _CONVOLUTIONS + (_CONVOLUTIONS + 1 if decoded else 0)
        values += maps * channels * math.prod(sizes)
    return values + outputs * math.prod(patch_size)


def allowed_values(gpu_memory: float) -> float:
    """Feature-map values that a GPU of this many GB trains at the reference batch."""
    return _REFERENCE_VALUES * gpu_memory / _REFERENCE_MEMORY


def batch_for_memory(values: int, gpu_memory: float) -> int:
    """Samples of this many feature-map values that fit the GPU."""
    return round(allowed_values(gpu_memory) / values * _REFERENCE_BATCH)


def batch_for_dataset(dataset_voxels: float, patch_size: Shape) -> int:
    """Patches that make up 5 % of the dataset's voxels: larger batches would see the same voxels again and again."""
    return round(dataset_voxels * _DATASET_SHARE / math.prod(patch_size))
