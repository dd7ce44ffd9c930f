"""Build published networks from their descriptions."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from configs.errors import Fault, raise_faults
from configs.network import NetworkConfig
from se_unet.published import descriptions as published
from se_unet.published.sampled_basis import SampledBasis
from se_unet.published.wimmer2023 import Wimmer2023, Wimmer2023Settings
from se_unet.published.wimmer2023_baseline import Wimmer2023Baseline, Wimmer2023BaselineSettings

DESCRIPTIONS = {"wimmer2023": published.wimmer2023, "wimmer2023_baseline": published.wimmer2023_baseline}


class PaddedWimmer2023(Wimmer2023):
    """The network for images of any size: pads images to the next size that fits by replicating the border, and crops the scores."""

    def forward(self, input: Tensor) -> Tensor:
        """Map an image (B, C, Z, Y, X) to scores (B, K, Z, Y, X)."""
        z, y, x = input.shape[2:]
        margins = (0, self.fitting(x) - x, 0, self.fitting(y) - y, 0, self.fitting(z) - z)
        return super().forward(F.pad(input, margins, mode="replicate"))[:, :, :z, :y, :x]


def build_published(config: NetworkConfig) -> nn.Module:
    """Build the published network of the description's family with fresh weights.

    Channels, features, spacing, scale group and projection (mean or max) are free; all other settings must be those published.

    Raises:
        InputError: other settings differ from the published ones; all of them are listed.
    """
    _check(config)
    inputs, outputs, strides = config.input_channels, config.output_channels, tuple(strides[0] for strides in config.strides[:-1])
    if config.scale_group is None:
        return Wimmer2023Baseline(Wimmer2023BaselineSettings(inputs, outputs, config.features, strides))
    widths = tuple(
        sigma / min(config.spacing) for sigma in reversed(config.scale_group.sigmas)
    )  # the paper starts with the widest
    projection: Literal["mean", "max"] = "max" if config.projection == "max" else "mean"
    basis = SampledBasis(scales=widths)
    return PaddedWimmer2023(Wimmer2023Settings(inputs, outputs, config.features, strides, basis, projection=projection))


def _check(config: NetworkConfig) -> None:
    expected = DESCRIPTIONS[config.family](config.input_channels, config.output_channels, config.features, config.spacing)
    free = {"scale_group"} | ({"projection"} if config.projection in ("mean", "max") else set())
    remedy = f"Start from `se_unet.{config.family}`"
    faults = [
        Fault(f"network: `{name}`", f"{value} differs from the published {getattr(expected, name)}", remedy)
        for name, value in config
        if name not in free and value != getattr(expected, name)
    ]
    raise_faults(faults)
