"""The skeleton of both networks of Wimmer et al. (2023): nested levels, as in MONAI's `UNet`."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Levels(Protocol):
    """Sizes of a nested network: channels of each level, the finest first, and strides between the levels."""

    @property
    def channels(self) -> tuple[int, ...]: ...  # noqa: D102

    @property
    def strides(self) -> tuple[int, ...]: ...  # noqa: D102


def check_levels(channels: Sequence[int], strides: Sequence[int]) -> None:
    """Raise `ValueError` unless there are two levels or more, and one stride between each two."""
    if len(strides) != len(channels) - 1 or len(channels) < 2:
        raise ValueError(f"{len(channels)} levels need {len(channels) - 1} strides (at least one), not {tuple(strides)}")


def nest_level(
    settings: Levels,
    block: Callable[..., nn.Module],
    convolution: Callable[..., nn.Module],
    inputs: int,
    outputs: int,
    level: int = 0,
    **first: Any,
) -> nn.Sequential:
    """Return a level of the network: downsampling, the levels below with a skip connection around them, upsampling.

    `block` makes a residual block and `convolution` a single one, from the settings among others. Level 0 is the finest; `first` are
    further arguments of the first block of the network.
    """
    width, stride = settings.channels[level], settings.strides[level]
    below: nn.Module
    if level + 2 < len(settings.channels):
        below, below_outputs = nest_level(settings, block, convolution, width, width, level + 1), width
    else:
        below, below_outputs = block(settings, width, settings.channels[-1]), settings.channels[-1]
    up = nn.Sequential(
        convolution(settings, width + below_outputs, outputs, stride, transposed=True),
        block(settings, outputs, outputs, units=1, bare_end=level == 0),
    )
    return nn.Sequential(block(settings, inputs, width, stride, **first), ConcatenatingSkip(below), up)


class ConcatenatingSkip(nn.Module):
    """Concatenate the channels of the input and the output of the levels below."""

    def __init__(self, submodule: nn.Module):
        super().__init__()
        self.submodule = submodule

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, ...) to (B, C + C', ...)."""
        return torch.cat([x, self.submodule(x)], dim=1)
