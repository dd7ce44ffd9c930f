"""A network and an augmentation that long trainings try before they enter the library; recipes name them."""

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from torch import nn

from configs.network import NetworkConfig
from configs.plan import ChannelNormalisation, NetworkPlan
from configs.training import TrainingConfig
from se_unet.families import ScaleFamily
from se_unet.layers.mixed import MixedConvolution
from se_unet.unet import UNet
from trainers.augmentation.planned import make_augmentation
from trainers.augmentation.spatial import SpatialDraw

SMOOTH_STAGES = 2
DRAWS = 3


class SmoothFirst(UNet):
    """The planned `se` of one scale with smooth kernels in the finest stages alone, and free ones in the coarser stages."""

    def __init__(self, config: NetworkConfig):
        super().__init__(config, _SmoothFirstFamily(config))


class _SmoothFirstFamily(ScaleFamily):
    def convolution(self, inputs: int, outputs: int, stage: int) -> nn.Module:
        """Build the network with smooth kernels where the grid is fine."""
        if stage < SMOOTH_STAGES:
            return super().convolution(inputs, outputs, stage)
        return MixedConvolution(inputs, outputs, (), self._config.kernels[stage], border=self._config.border)


class OftenTransformed:
    """The planned augmentation with transforms of space more often: the first of three draws that rotates or scales.

    Args:
        planned, normalisation, config: arguments of `make_augmentation`.
    """

    def __init__(self, planned: NetworkPlan, normalisation: Sequence[ChannelNormalisation], config: TrainingConfig):
        self._inner = make_augmentation(planned, normalisation, config.model_copy(update={"augmentation_class": None}))

    def draw_spatial(self, random: Generator) -> SpatialDraw:
        """Draw the spatial transform of one patch."""
        draws = [self._inner.draw_spatial(random) for _ in range(DRAWS)]
        return next((draw for draw in draws if draw.matrix is not None), draws[-1])

    def change_intensity(self, images: NDArray[np.float32], random: Generator) -> NDArray[np.float32]:
        """Change the intensities as the planned augmentation does."""
        return self._inner.change_intensity(images, random)
