"""Scale-equivariant convolutions, which lift an image to all scales and convolve scale-feature maps.

They follow Wimmer et al., "Scale Equivariant Deep Learning for 3D Data" (2023), sections 3.1-3.3, with fitted kernels and physical widths:

    lifting   (Phi f)(k, x) = sum_c         int f_c(x + u)        psi_{c, s_k}(u) du
    group     (Phi F)(k, x) = sum_c sum_j   int F_c(k + j, x + u) psi_{c, j, s_k}(u) du
    law       Phi(L_a f)(k, x) = Phi(f)(k - 1, x / a)     with (L_a f)(x) = f(x / a)

The law is approximate on a voxel grid, and does not hold at the two ends of the truncated group.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from configs.network import Border
from se_unet.layers.engines import Engine, choose_engine, coverage, dense, factorised
from se_unet.layers.half_weights import WeightedLayer, Weights, weights_of
from se_unet.layers.kernels import BasisOrder, FixedFunctions, Taps, kernel_functions
from se_unet.separable import full_precision

PLAIN_TAPS = 27  # weights are scaled so that they are as large as those of an ordinary 3^3 convolution


class ScaleConvolution(WeightedLayer):
    """Base of lifting and group convolutions. The weights are coefficients of the kernel functions, shared by all scales.

    Args:
        in_channels, out_channels: channels at each scale.
        sigmas: kernel width in voxels for each scale and axis (Z, Y, X), `sigma_mm / spacing`, ascending in scale.
        kernel: 1 for each axis with a single tap (in-plane kernels), otherwise 3.
        order: highest total order of the functions, or `tensor`.
        scale_size: number of scales that each output scale sees, from its own upwards. Scales beyond the last count as zero.
        border: extension of the image beyond its border.
        bias: whether to add one bias per channel, shared by the scales.
        taps, size: form of the kernel functions, as in `kernel_functions`.
        engine: implementation of the convolution; None leaves the choice to `choose_engine`.
        gain: factor of the response to one weight; a larger gain learns faster at the same learning rate.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        sigmas: Sequence[Sequence[float]],
        kernel: Sequence[int] = (3, 3, 3),
        *,
        order: BasisOrder = 2,
        scale_size: int = 1,
        border: Border = "replicate",
        bias: bool = True,
        taps: Taps = "factors",
        size: int | None = None,
        engine: Engine | None = None,
        gain: float = 1.0,
    ):
        super().__init__()
        self.scales, self._scale_size, self.border, self.engine = len(sigmas), scale_size, border, engine
        widths = tuple((float(z), float(y), float(x)) for z, y, x in sigmas)
        active = (kernel[0] > 1, kernel[1] > 1, kernel[2] > 1)
        functions = kernel_functions(widths, active, order, taps, size)
        profiles = _order_zero_profiles(kernel_functions(widths, active, 0, taps, size).dense, active)
        self.functions = FixedFunctions(functions, profiles, gain * (PLAIN_TAPS / len(functions.orders)) ** 0.5)
        self._merged: Tensor | None
        self.register_buffer("_merged", None, persistent=False)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, scale_size, len(functions.orders)))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self._cached: tuple[object, Tensor] | None = None
        self.reset_parameters(gain)

    def reset_parameters(self, gain: float = 1.0) -> None:
        """Draw new weights. The variance of the response to smooth input of unit variance is 2, for a rectifier (He et al. 2015)."""
        nn.init.normal_(self.weight, std=(2 / (self.weight.shape[1] * self._scale_size * PLAIN_TAPS)) ** 0.5 / gain)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def extra_repr(self) -> str:
        """Return the sizes, for printing."""
        outputs, inputs = self.weight.shape[:2]
        return f"{inputs}, {outputs}, scales={self.scales}, scale_size={self._scale_size}, border={self.border}"

    def kernels(self, engine: Engine) -> Tensor:
        """Return the kernels (S, O, I * scale_size, K_z, K_y, K_x) of an engine. In evaluation they are cached until the weights change."""
        if self._merged is not None:
            return self._merged
        functions = self.functions.stencils if engine == "factorised" else self.functions.whole
        if self.training or torch.compiler.is_compiling() or torch.is_grad_enabled():
            return self._merge(functions)
        key = (engine, self.weight._version, self.weight.data_ptr(), functions.data_ptr(), functions.dtype)
        cached = self._cached  # read once: another thread may replace it
        if cached is None or cached[0] != key:
            cached = self._cached = (key, self._merge(functions))
        return cached[1]

    def weights(self) -> Weights:
        """Return the kernels of the engine that is used, and the bias unless it is added after the convolution."""
        return self.kernels(self._chosen_engine()), None if self.border == "renormalise" else self.bias

    def merge(self) -> None:
        """Fix the engine and the present kernels; later changes of the weights are ignored. For copies that will be exported."""
        self.engine = self._chosen_engine()
        self._merged = self.kernels(self.engine).detach()

    def _chosen_engine(self) -> Engine:
        return self.engine or choose_engine(self.weight.device, self.functions.have_blurs)

    def _merge(self, functions: Tensor) -> Tensor:
        with full_precision(functions.device):
            if functions.device.type == "cuda":
                return _merged_innermost(self.weight.to(functions.dtype), functions)
            kernels = torch.einsum("oijf,sfzyx->soijzyx", self.weight.to(functions.dtype), functions)
        return kernels.movedim(3, 2).flatten(2, 3)

    def _evaluate(self, x: Tensor) -> Tensor:
        kernels, bias = weights_of(self)
        if self._chosen_engine() == "factorised":
            y = factorised(x, self.functions.blurs(), kernels, bias, self.border)
        else:
            y = dense(x, kernels, bias, self.border)
        if self.border != "renormalise":
            return y
        y = y / coverage(self.functions.profiles(), x.shape[3:]).to(y.device, y.dtype)
        return y if self.bias is None else y + self.bias.reshape(1, -1, 1, 1, 1, 1)


class LiftingConvolution(ScaleConvolution):
    """Lift an image to all scales: (B, C, Z, Y, X) -> (B, C', S, Z, Y, X)."""

    def forward(self, image: Tensor) -> Tensor:
        """Convolve the image at every scale."""
        return self._evaluate(image[:, :, None])


class GroupConvolution(ScaleConvolution):
    """Convolve a scale-feature map: (B, C, S, Z, Y, X) -> (B, C', S, Z, Y, X)."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve each scale together with the `scale_size - 1` scales above it."""
        return self._evaluate(self.gathered(x))

    def gathered(self, x: Tensor) -> Tensor:
        """Return each scale's channels and those of the scales above that it sees: (B, C * scale_size, S, Z, Y, X)."""
        return x if self._scale_size == 1 else torch.cat([_shift_scales(x, j) for j in range(self._scale_size)], 1)


def _merged_innermost(weight: Tensor, functions: Tensor) -> Tensor:
    """Return what `_merge` does with channels innermost in memory, as convolutions on GPUs need them, by one product.

    Weights are (O, I, J, F) for J scales that are seen, functions (S, F, K_z, K_y, K_x).
    """
    each = weight.transpose(1, 2).flatten(1, 2)  # (O, J I, F)
    taps = functions.flatten(2).mT.flatten(0, 1)  # (S K_z K_y K_x, F)
    kernels = torch.bmm(
        taps.expand(len(each), -1, -1), each.mT
    )  # without a copy for each output, which a broadcast product makes
    return kernels.unflatten(1, (len(functions), *functions.shape[2:])).transpose(0, 1).movedim(-1, 2)


def _order_zero_profiles(functions: Tensor, active: Sequence[bool]) -> list[Tensor | None]:
    """Return the taps (S, K), summing to 1, of the order-0 function (S, 1, K_z, K_y, K_x) along each active axis."""
    profiles: list[Tensor | None] = []
    for axis, is_active in enumerate(active):
        others = [position for position in (2, 3, 4) if position != axis + 2]
        profiles.append(functions.sum(others)[:, 0] / functions.sum((2, 3, 4)) if is_active else None)
    return profiles


def _shift_scales(x: Tensor, by: int) -> Tensor:
    """Return the map with scale k + `by` at scale k, zero beyond the last scale."""
    if by == 0:
        return x
    kept = x[:, :, by:]
    return torch.cat([kept, torch.zeros_like(x[:, :, : x.shape[2] - kept.shape[2]])], 2)
