"""Published networks, built from the one description that all networks have."""

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
    """The network for images of any size: the border is replicated up to the next size that fits, and cut off again."""

    def forward(self, input: Tensor) -> Tensor:
        """Image (B, C, Z, Y, X) to scores (B, K, Z, Y, X)."""
        z, y, x = input.shape[2:]
        margins = (0, self.fitting(x) - x, 0, self.fitting(y) - y, 0, self.fitting(z) - z)
        return super().forward(F.pad(input, margins, mode="replicate"))[:, :, :z, :y, :x]


def build_published(config: NetworkConfig) -> nn.Module:
    """The published network of the description's family, with fresh weights.

    Channels, features, spacing, scale group and projection (mean or max) may be chosen; the rest is as published.

    Raises:
        InputError: something else differs from what was published; everything that does is listed.
    """
    _check(config)
    inputs, outputs, strides = config.input_channels, config.output_channels, tuple(strides[0] for strides in config.strides[:-1])
    if config.scale_group is None:
        return Wimmer2023Baseline(Wimmer2023BaselineSettings(inputs, outputs, config.features, strides))
    widths = tuple(sigma / min(config.spacing) for sigma in reversed(config.scale_group.sigmas))  # published from the widest on
    projection: Literal["mean", "max"] = "max" if config.projection == "max" else "mean"
    basis = SampledBasis(scales=widths)
    return PaddedWimmer2023(Wimmer2023Settings(inputs, outputs, config.features, strides, basis, projection=projection))


def _check(config: NetworkConfig) -> None:
    expected = DESCRIPTIONS[config.family](config.input_channels, config.output_channels, config.features, config.spacing)
    free = {"scale_group"} | ({"projection"} if config.projection in ("mean", "max") else set())
    remedy = f"Start from `se_unet.published.descriptions.{config.family}`"
    faults = [
        Fault(f"network: `{name}`", f"{value} differs from {getattr(expected, name)}, which was published", remedy)
        for name, value in config
        if name not in free and value != getattr(expected, name)
    ]
    raise_faults(faults)
