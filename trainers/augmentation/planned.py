"""Build the augmentation of training patches from the plan and the training settings."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from configs.named_parts import import_part
from configs.plan import ChannelNormalisation, NetworkPlan
from configs.training import TrainingConfig
from trainers.augmentation.intensity import augment_intensity, intensity_transforms
from trainers.augmentation.on_device import IntensityDraw, draw_intensity
from trainers.augmentation.spatial import SpatialDraw, SpatialRanges, draw_spatial, flat_axis, spatial_ranges


class Augmentation(Protocol):
    """Interface of augmentations. A user's own class takes the arguments of `make_augmentation` and draws only from `random`."""

    def draw_spatial(self, random: Generator) -> SpatialDraw:
        """Draw the spatial transform of one patch."""
        ...

    def change_intensity(self, images: NDArray[np.float32], random: Generator) -> NDArray[np.float32]:
        """Draw and apply the intensity transforms of patches (B, C, Z, Y, X); they may be changed in place."""
        ...


class PlannedAugmentation:
    """Spatial and intensity transforms with the planned ranges.

    Args:
        spatial: ranges of the spatial transforms.
        across: axis of (Z, Y, X) along which the resolution is kept, see `spatial.flat_axis`; None reduces it along all axes.
        intensity: whether to change intensities.
        masked_channels: channels whose zeros lie outside the body and stay zero.
    """

    def __init__(self, spatial: SpatialRanges, across: int | None, intensity: bool, masked_channels: Sequence[int] = ()):
        self._spatial = spatial
        self._transforms = intensity_transforms(across) if intensity else None
        self.masked_channels = tuple(masked_channels)
        self.across = across

    def draw_spatial(self, random: Generator) -> SpatialDraw:
        """Draw the spatial transform of one patch."""
        return draw_spatial(random, self._spatial)

    def change_intensity(self, images: NDArray[np.float32], random: Generator) -> NDArray[np.float32]:
        """Draw and apply the intensity transforms of a batch (B, C, Z, Y, X), in place."""
        return images if self._transforms is None else augment_intensity(images, self._transforms, random, self.masked_channels)

    def draw_intensity(self, random: Generator, channels: int) -> IntensityDraw | None:
        """Draw the intensity transforms of one patch, to be applied on the device; None if intensities stay unchanged."""
        return None if self._transforms is None else draw_intensity(random, channels)


def make_augmentation(
    planned: NetworkPlan, normalisation: Sequence[ChannelNormalisation], config: TrainingConfig
) -> Augmentation:
    """Return the planned augmentation with the settings applied, or the user's own class if the settings name one."""
    if config.augmentation_class is not None:
        own: Augmentation = import_part(config.augmentation_class, "augmentation class")(planned, normalisation, config)
        return own
    scaling = planned.scaling_range if config.augment_scale and planned.scaling_range != (1.0, 1.0) else None
    ranges = spatial_ranges(planned.patch_size, scaling, planned.mirror_axes, planned.scaling_probability)
    if not config.augmentation:
        ranges = SpatialRanges(((0, 0), (0, 0), (0, 0)), None, mirror_axes=ranges.mirror_axes)
    masked = [index for index, channel in enumerate(normalisation) if channel.scheme == "zscore_in_mask"]
    return PlannedAugmentation(ranges, flat_axis(planned.patch_size), config.augmentation, masked)
