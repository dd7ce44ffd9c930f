"""The U-Net skeleton of all networks: encoder, decoder with skip connections, class scores at each decoder stage."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from configs.network import NetworkConfig
from se_unet.families import SLOPE, Family
from se_unet.layers.half_weights import halved
from se_unet.layers.instance_norm import InstanceNorm


class ConvolutionBlock(nn.Sequential):
    """Convolution, instance norm, leaky rectifier."""

    def __init__(self, convolution: nn.Module, channels: int):
        super().__init__(convolution, InstanceNorm(channels, slope=SLOPE))


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut (He et al. 2016): rectifier(shortcut(x) + norm(conv(block(x))))."""

    def __init__(self, family: Family, inputs: int, outputs: int, stage: int, strided: bool):
        super().__init__()
        first = family.strided_convolution if strided else family.convolution
        self.first = ConvolutionBlock(first(inputs, outputs, stage), outputs)
        norm = InstanceNorm(outputs)
        nn.init.zeros_(norm.weight)  # the block starts as its shortcut, as in nnU-Net
        self.second = nn.Sequential(family.convolution(outputs, outputs, stage), norm)
        self.shortcut = family.shortcut(inputs, outputs, stage, strided)
        self.rectifier = nn.LeakyReLU(SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        """Add the output of the convolutions to the shortcut."""
        return self.rectifier(self.second(self.first(x)) + self.shortcut(x))


class UNet(nn.Module):
    """A U-Net of any depth, with strides and kernel sizes for each axis.

    Args:
        config: description of the network.
        family: maker of the layers that differ between networks.
    """

    def __init__(self, config: NetworkConfig, family: Family):
        super().__init__()
        self.config = config
        stages = range(len(config.features))
        self.encoder = nn.ModuleList([_encoder_stage(config, family, stage) for stage in stages])
        self.ups = nn.ModuleList(
            [family.up(config.features[stage + 1], config.features[stage], stage + 1) for stage in stages[:-1]]
        )
        self.decoder = nn.ModuleList([_decoder_stage(config, family, stage) for stage in stages[:-1]])
        self.heads = nn.ModuleList(
            [family.head(config.features[stage]) for stage in stages[:-1]] or [family.head(config.features[0])]
        )

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Return class scores (logits).

        Args:
            image: (B, C, Z, Y, X); Z, Y and X must be divisible by the total stride.

        Returns:
            (B, K, Z, Y, X); in training with deep supervision, one tensor for each decoder stage on its own grid, the finest first.
        """
        with halved(self, image, self.config.checkpointing):
            features = self.stages(image)
            if self.training and self.config.deep_supervision:
                return [self.run(head, x) for head, x in zip(self.heads, features, strict=True)]
            return self.run(self.heads[0], features[0])

    def stages(self, image: Tensor) -> list[Tensor]:
        """Return the features of each decoder stage for an image, the finest first."""
        x = image.contiguous(memory_format=torch.channels_last_3d)
        skips = []
        for stage in self.encoder:
            x = self.run(stage, x)
            skips.append(x)
        outputs = []
        for level in reversed(range(len(self.decoder))):
            x = self.run(self._decode, level, x, skips[level])
            outputs.append(x)
        return outputs[::-1] or [x]

    def run(self, part: Callable[..., Tensor], *inputs: Any) -> Tensor:
        """Run a part of the network. With checkpointing, only its inputs are kept; the backward pass computes the rest again."""
        if self.config.checkpointing and torch.is_grad_enabled():
            return checkpoint(part, *inputs, use_reentrant=False)
        return part(*inputs)

    def _decode(self, level: int, x: Tensor, skip: Tensor) -> Tensor:
        # Along the innermost axis in memory; else maps with an axis of scales would be copied to another layout and back.
        both = [part.movedim(1, -1) for part in (self.ups[level](x), skip)]
        return self.decoder[level](torch.cat(both, -1).movedim(-1, 1))


def _encoder_stage(config: NetworkConfig, family: Family, stage: int) -> nn.Module:
    outputs = config.features[stage]
    inputs = config.features[stage - 1] if stage else outputs
    blocks: list[nn.Module] = []
    if stage == 0:
        blocks.append(ConvolutionBlock(family.stem(outputs), outputs))
    count = config.encoder_blocks[stage]
    if config.block == "residual":
        blocks += [
            ResidualBlock(family, outputs if index or not stage else inputs, outputs, stage, strided=index == 0 and stage > 0)
            for index in range(count)
        ]
        return nn.Sequential(*blocks)
    if stage > 0:
        blocks.append(ConvolutionBlock(family.strided_convolution(inputs, outputs, stage), outputs))
    blocks += [ConvolutionBlock(family.convolution(outputs, outputs, stage), outputs) for _ in range(count - 1)]
    return nn.Sequential(*blocks)


def _decoder_stage(config: NetworkConfig, family: Family, stage: int) -> nn.Module:
    outputs = config.features[stage]
    blocks = [
        ConvolutionBlock(family.convolution(outputs if index else 2 * outputs, outputs, stage), outputs)
        for index in range(config.decoder_blocks[stage])
    ]
    return nn.Sequential(*blocks)
