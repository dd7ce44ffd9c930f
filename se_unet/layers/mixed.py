"""A convolution that blurs part of its input channels and leaves the others unchanged.

Smooth kernels learn fast and from few images, but resolve nothing finer than their width; ordinary kernels do the opposite. Here channels
take turns: of every `n + 1` channels, `n` are blurred, each by one of `n` Gaussians, and convolved with steerable kernels; the last is not
blurred and is convolved with free kernels. One convolution of three taps sums all, so that this takes no more multiply-adds than an
ordinary convolution apart from the blurs. Free kernels do not scale, so a network of this kind obeys the law of scale only in part.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.network import Border
from se_unet.layers.engines import blurred
from se_unet.layers.half_weights import WeightedLayer, Weights, weights_of
from se_unet.layers.kernels import BasisOrder, FixedFunctions, kernel_functions
from se_unet.separable import full_precision

FREE_TAPS = 27  # smooth weights are scaled so that they are as large as those of an ordinary 3^3 convolution
_PADDING = {"replicate": "replicate", "zero": "constant", "reflect": "reflect"}


class MixedConvolution(WeightedLayer):
    """Convolve a map of one scale, (B, C, 1, Z, Y, X) -> (B, C', 1, Z, Y, X), or an image (B, C, Z, Y, X).

    Args:
        in_channels, out_channels: channels of the maps. Fewer inputs than turns are repeated, so that each turn sees all of them.
        sigmas: width in voxels (Z, Y, X) of each Gaussian.
        kernel: 1 for an axis with a single tap (in-plane kernels), else 3.
        order: highest total order of the functions of the smooth kernels.
        border: extension of the image beyond its border.

    Raises:
        ValueError: the border is `renormalise`, which free kernels do not support.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        sigmas: Sequence[tuple[float, float, float]],
        kernel: Sequence[int] = (3, 3, 3),
        *,
        order: BasisOrder = 2,
        border: Border = "replicate",
    ):
        super().__init__()
        if border not in _PADDING:
            raise ValueError(f"mixed convolutions know the borders {', '.join(_PADDING)}, not {border}")
        self.border, self.margins = border, tuple(size // 2 for size in kernel)
        self.turns = len(sigmas) + 1
        self.repeats = self.turns if in_channels < self.turns else 1
        inputs = in_channels * self.repeats
        active = (kernel[0] > 1, kernel[1] > 1, kernel[2] > 1)
        every = [kernel_functions((sigma,), active, order) for sigma in sigmas]
        self.functions = nn.ModuleList(
            FixedFunctions(one, (None, None, None), (FREE_TAPS / len(one.orders)) ** 0.5) for one in every
        )
        self.smooth = nn.ParameterList(
            torch.empty(out_channels, len(range(turn, inputs, self.turns)), len(one.orders)) for turn, one in enumerate(every)
        )
        self.free = nn.Parameter(torch.empty(out_channels, len(range(self.turns - 1, inputs, self.turns)), *kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        for weight in self.smooth:
            nn.init.normal_(weight, std=(2 / (inputs * FREE_TAPS)) ** 0.5)
        nn.init.normal_(self.free, std=(2 / (inputs * self.free[0, 0].numel())) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Blur, then convolve all channels at once."""
        x = x if x.ndim == 5 else x[:, :, 0]
        x = x.repeat(1, self.repeats, 1, 1, 1) if self.repeats > 1 else x
        parts = [
            blurred(x[:, turn :: self.turns], functions.blurs(), self.margins, self.border)
            for turn, functions in enumerate(self._smooth_functions())
        ]
        parts.append(self._padded(x[:, self.turns - 1 :: self.turns]))
        kernels, bias = weights_of(self)
        return F.conv3d(torch.cat(parts, 1), kernels, bias)[:, :, None]

    def weights(self) -> Weights:
        """Return kernels and bias."""
        return self.kernels(), self.bias

    def kernels(self) -> Tensor:
        """(O, I, K_z, K_y, K_x) of the channels in the order of their turns."""
        kernels = []
        with full_precision(self.free.device):
            for weight, functions in zip(self.smooth, self._smooth_functions(), strict=True):
                kernels.append(torch.einsum("oif,fzyx->oizyx", weight.to(functions.stencils.dtype), functions.stencils[0]))
        return torch.cat([*kernels, self.free], 1).contiguous(memory_format=torch.channels_last_3d)

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        return f"{self.kernels().shape[1]}, {self.free.shape[0]}, turns={self.turns}, border={self.border}"

    def _smooth_functions(self) -> list[FixedFunctions]:
        return [one for one in self.functions if isinstance(one, FixedFunctions)]

    def _padded(self, x: Tensor) -> Tensor:
        z, y, x_margin = self.margins
        return F.pad(x, (x_margin, x_margin, y, y, z, z), mode=_PADDING[self.border])
