"""Instance normalisation with an optional rectifier. Both passes keep the channels innermost in memory."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from se_unet.layers.fused.norm import norm, suits


class InstanceNorm(nn.Module):
    """Normalise each channel of each sample to zero mean and unit variance, scale and shift it, and rectify it.

    Statistics are pooled over all axes after the channel: (Z, Y, X), or (S, Z, Y, X) for a scale-feature map, which preserves scale
    equivariance. Parameters and values are those of `torch.nn.InstanceNorm3d(affine=True)`, followed by `torch.nn.LeakyReLU(slope)`.

    Args:
        channels: channels of the map.
        eps: constant added to the variance.
        slope: slope of the leaky rectifier below zero; None for no rectifier.
    """

    def __init__(self, channels: int, eps: float = 1e-5, slope: float | None = None):
        super().__init__()
        self.eps, self.slope = eps, slope
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise a map (B, C, ...); the result has the same shape."""
        if (
            x.device.type in ("cpu", "meta")  # memory counted on meta must be that of CPUs
            and torch.is_grad_enabled()
            and not torch.compiler.is_compiling()
            and x.dtype == self.weight.dtype
        ):
            return _ChannelsInnermost.apply(x, self.weight, self.bias, self.eps, 1.0 if self.slope is None else self.slope)
        if x.device.type == "cuda" and not torch.compiler.is_compiling():  # compilers fuse the operators below themselves
            return self._on_gpu(x)
        y = F.group_norm(x, x.shape[1], self.weight, self.bias, self.eps)
        if self.slope is None:
            return y
        return F.leaky_relu(y, self.slope, inplace=True)  # the gradient of the norm needs only the input of the norm

    def _on_gpu(self, x: Tensor) -> Tensor:
        """Normalise a map in its precision and layout, by kernels of its own or by PyTorch's."""
        weight, bias, slope = self.weight, self.bias, 1.0 if self.slope is None else self.slope

        def fused(x: Tensor) -> Tensor:
            return norm(x, weight, bias, self.eps, slope)

        def plain(x: Tensor) -> Tensor:
            result: Tensor = _InTheMapsPrecision.apply(x, weight, bias, self.eps, slope)
            return result

        return fused(x) if suits(x, fused, plain) else plain(x)

    def extra_repr(self) -> str:
        """Return the number of channels and the slope, for printing."""
        return f"{self.weight.numel()}, slope={self.slope}"


class _ChannelsInnermost(torch.autograd.Function):
    """Group normalisation with one group per channel, followed by a leaky rectifier (slope 1 for none).

    PyTorch's own backward pass copies channels-last maps on CPUs, and a separate rectifier would keep another map for the gradients.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, slope: float) -> Tensor:
        batch, channels = x.shape[:2]
        rows = x.movedim(1, -1).contiguous()
        volume = rows.reshape(batch, 1, 1, -1, channels).movedim(-1, 1)
        y, mean, rstd = torch.native_group_norm(volume, weight, bias, batch, channels, volume[0, 0].numel(), channels, eps)
        if slope != 1:
            F.leaky_relu_(y, slope)
        ctx.save_for_backward(rows, weight, bias, mean, rstd)
        ctx.slope = slope
        return y.movedim(1, -1).reshape(rows.shape).movedim(-1, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        rows, weight, bias, mean, rstd = ctx.saved_tensors
        batch, channels = rows.shape[0], rows.shape[-1]
        x = rows.reshape(batch, -1, channels)
        dy = gradient.movedim(1, -1).reshape(batch, -1, channels)
        count = x.shape[1]
        gain = weight * rstd
        if ctx.slope != 1:
            y = _before_rectifier(x, weight, bias, mean, rstd)
            dy = torch.ops.aten.leaky_relu_backward(dy, y, ctx.slope, False)
        sums = dy.sum(1)
        products = (torch.einsum("bnc,bnc->bc", dy, x) - mean * sums) * rstd  # sum of dy times the normalised x
        slope = -gain * rstd * products / count
        offset = -gain * sums / count - slope * mean
        dx = torch.addcmul(offset[:, None], x, slope[:, None]).addcmul_(dy, gain[:, None])
        return dx.reshape(rows.shape).movedim(-1, 1), products.sum(0), sums.sum(0), None, None


def _before_rectifier(samples: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, rstd: Tensor) -> Tensor:
    """Compute the normalised and scaled samples (B, voxels, C) again from statistics (B, C)."""
    gain = weight * rstd
    return torch.addcmul((bias - gain * mean)[:, None], samples, gain[:, None])


class _InTheMapsPrecision(torch.autograd.Function):
    """The same for GPUs: maps stay in their precision and layout, statistics are in float32.

    In mixed precision PyTorch's group norm would convert each map to float32 and copy it to another layout. Batch norm of one sample,
    a matrix of voxels and channels, does the same in place and without either.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, slope: float) -> Tensor:
        rows = x.movedim(1, -1).contiguous()
        samples = rows.flatten(1, -2)  # (B, voxels, C)
        y = torch.empty_like(samples)
        mean, rstd = (weight.new_empty((len(samples), weight.numel()), dtype=torch.float32) for _ in range(2))
        for sample, result, its_mean, its_rstd in zip(samples, y, mean, rstd, strict=True):
            torch.ops.aten.native_batch_norm.out(
                sample, weight, bias, None, None, True, 0.0, eps, out=result, save_mean=its_mean, save_invstd=its_rstd
            )
        if slope != 1:
            F.leaky_relu_(y, slope)
        # In half precision the sign of a result cannot be computed again; in float32 this saves a map.
        kept = [y] if slope != 1 and y.dtype != torch.float32 else []
        ctx.save_for_backward(samples, weight, bias, mean, rstd, *kept)
        ctx.eps, ctx.slope = eps, slope
        return y.view(rows.shape).movedim(-1, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        samples, weight, bias, mean, rstd, *kept = ctx.saved_tensors
        shape = gradient.movedim(1, -1).shape
        dy = gradient.movedim(1, -1).contiguous().flatten(1, -2)
        if ctx.slope != 1:
            y = kept[0] if kept else _before_rectifier(samples, weight, bias, mean, rstd)
            dy = torch.ops.aten.leaky_relu_backward(dy, y, ctx.slope, bool(kept))
            del y  # maps are large
        dx, dw, db = (
            torch.stack(parts)
            for parts in zip(
                *(
                    torch.ops.aten.native_batch_norm_backward(*pair, weight, None, None, *statistics, True, ctx.eps, [True] * 3)
                    for pair, statistics in zip(zip(dy, samples, strict=True), zip(mean, rstd, strict=True), strict=True)
                ),
                strict=True,
            )
        )
        return dx.view(shape).movedim(-1, 1), dw.sum(0), db.sum(0), None, None
