"""Build networks from their descriptions."""

from torch import nn

from configs.network import NetworkConfig
from se_unet.families import MixedFamily, PlainFamily, ScaleFamily
from se_unet.published.building import build_published
from se_unet.pyramid import Pyramid
from se_unet.unet import UNet


def build_network(config: NetworkConfig) -> nn.Module:
    """Build the described network with fresh weights.

    Returns:
        A module from images (B, C, Z, Y, X), with sizes divisible by `config.total_stride`, to logits (B, K, Z, Y, X); in training with
        deep supervision to a list of logits, the finest grid first.

    Raises:
        InputError: the description of a published network differs from what was published.
    """
    if config.family == "plain":
        return UNet(config, PlainFamily(config))
    if config.family == "se":
        return UNet(config, ScaleFamily(config))
    if config.family == "mixed":
        return UNet(config, MixedFamily(config))
    if config.family == "pyramid":
        return Pyramid(config)
    return build_published(config)
