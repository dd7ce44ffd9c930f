"""Instance normalisation that keeps the channels innermost in memory, forwards and backwards."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class InstanceNorm(nn.Module):
    """Bring each channel of each sample to zero mean and unit variance, then scale and shift it.

    Statistics are pooled over all axes after the channel: (Z, Y, X), or (S, Z, Y, X) for a scale-feature map, which keeps scale
    equivariance. Parameters and values are those of `torch.nn.InstanceNorm3d(affine=True)`.
    """

    def __init__(self, channels: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> the same shape."""
        if (
            x.device.type == "cpu"
            and torch.is_grad_enabled()
            and not torch.compiler.is_compiling()
            and x.dtype == self.weight.dtype
        ):
            return _ChannelsInnermost.apply(x, self.weight, self.bias, self.eps)
        return F.group_norm(x, x.shape[1], self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Number of channels, for printing."""
        return str(self.weight.numel())


class _ChannelsInnermost(torch.autograd.Function):
    """Group normalisation with one group per channel; torch's own backward pass copies channels-last maps on CPUs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        batch, channels = x.shape[:2]
        rows = x.movedim(1, -1).contiguous()
        volume = rows.reshape(batch, 1, 1, -1, channels).movedim(-1, 1)
        y, mean, rstd = torch.native_group_norm(volume, weight, bias, batch, channels, volume[0, 0].numel(), channels, eps)
        ctx.save_for_backward(rows, weight, mean, rstd)
        return y.movedim(1, -1).reshape(rows.shape).movedim(-1, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        rows, weight, mean, rstd = ctx.saved_tensors
        batch, channels = rows.shape[0], rows.shape[-1]
        x = rows.reshape(batch, -1, channels)
        dy = gradient.movedim(1, -1).reshape(batch, -1, channels)
        count = x.shape[1]
        sums = dy.sum(1)
        products = (torch.einsum("bnc,bnc->bc", dy, x) - mean * sums) * rstd  # sum of dy times the normalised x
        gain = weight * rstd
        slope = -gain * rstd * products / count
        offset = -gain * sums / count - slope * mean
        dx = torch.addcmul(offset[:, None], x, slope[:, None]).addcmul_(dy, gain[:, None])
        return dx.reshape(rows.shape).movedim(-1, 1), products.sum(0), sums.sum(0), None
