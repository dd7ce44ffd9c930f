"""Instance normalisation and rectifier of a GPU's maps by kernels of their own.

The operator `se_unet::instance_norm` is one call for compilers, fake tensors and counters of kernels. Its gradient needs the input alone,
so that no other map is kept for it.
"""

from typing import Any

import torch
from torch import Tensor

from se_unet.layers.fused.choice import Function, are_allowed, prefers_fused


def suits(x: Tensor, fused: Function, plain: Function) -> bool:
    """Return whether `fused`, a norm by `norm`, is to be used for maps (B, C, ...) on a GPU instead of `plain`."""
    if not are_allowed() or x[0].numel() >= 2**31:
        return False
    key = ("norm", x.device, x.dtype, x.shape[1:])
    return prefers_fused(key, lambda one: _gradient_of(fused, one), lambda one: _gradient_of(plain, one), x)


def norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float, slope: float) -> Tensor:
    """Normalise maps (B, C, ...) over all axes after the channel, scale, shift and rectify them; channels are innermost in memory."""
    rows = x.movedim(1, -1).contiguous()
    result: Tensor = _norm(rows.flatten(1, -2), weight, bias, eps, slope)[0]
    return result.view(rows.shape).movedim(-1, 1)


def _gradient_of(function: Function, x: Tensor) -> Tensor:
    """Return the gradient of half the square of a function's result, which depends on both passes."""
    with torch.enable_grad():
        given = x.detach().requires_grad_()
        result = function(given)
        return torch.autograd.grad(result, given, result.detach())[0]


@torch.library.custom_op("se_unet::instance_norm", mutates_args=(), device_types="cpu")
def _norm(samples: Tensor, weight: Tensor, bias: Tensor, eps: float, slope: float) -> tuple[Tensor, Tensor]:
    """Normalise samples (B, voxels, C): the result, and mean and reciprocal deviation (B, 2, C) float32."""
    values = samples.float()
    mean, deviation = values.mean(1), (values.var(1, correction=0) + eps).rsqrt()
    result = (values - mean[:, None]) * (deviation * weight)[:, None] + bias
    return torch.where(result > 0, result, slope * result).to(samples.dtype), torch.stack([mean, deviation], 1)


@_norm.register_kernel("cuda")
def _norm_on_gpu(samples: Tensor, weight: Tensor, bias: Tensor, eps: float, slope: float) -> tuple[Tensor, Tensor]:
    from se_unet.layers.fused.norm_kernel import launch  # needs Triton, which is not everywhere

    return launch(samples, weight, bias, eps, slope)


@_norm.register_fake
def _norm_shapes(samples: Tensor, weight: Tensor, bias: Tensor, eps: float, slope: float) -> tuple[Tensor, Tensor]:
    return torch.empty_like(samples), samples.new_empty(samples.shape[0], 2, samples.shape[2], dtype=torch.float32)


@torch.library.custom_op("se_unet::instance_norm_backward", mutates_args=(), device_types="cpu")
def _norm_backward(
    gradient: Tensor, samples: Tensor, weight: Tensor, bias: Tensor, statistics: Tensor, slope: float
) -> tuple[Tensor, Tensor]:
    """Return the gradient of the samples (B, voxels, C), and those of bias and weight, (2, C) float32."""
    mean, deviation = statistics.unbind(1)
    values = samples.float() - mean[:, None]
    before = torch.where(values * (deviation * weight)[:, None] + bias > 0, gradient.float(), slope * gradient.float())
    values *= deviation[:, None]
    totals = torch.stack([before.sum(1), (before * values).sum(1)], 1)
    shift, share = (totals / samples.shape[1])[:, :, None].unbind(1)
    return ((before - shift - values * share) * (deviation * weight)[:, None]).to(samples.dtype), totals.sum(0)


@_norm_backward.register_kernel("cuda")
def _norm_backward_on_gpu(
    gradient: Tensor, samples: Tensor, weight: Tensor, bias: Tensor, statistics: Tensor, slope: float
) -> tuple[Tensor, Tensor]:
    from se_unet.layers.fused.norm_kernel import launch_backward

    return launch_backward(gradient, samples, weight, bias, statistics, slope)


@_norm_backward.register_fake
def _norm_backward_shapes(
    gradient: Tensor, samples: Tensor, weight: Tensor, bias: Tensor, statistics: Tensor, slope: float
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(samples), samples.new_empty(2, samples.shape[2], dtype=torch.float32)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    samples, weight, bias, _, ctx.slope = inputs
    ctx.save_for_backward(samples, weight, bias, output[1])
    ctx.set_materialize_grads(False)  # the statistics have no gradient


def _gradients(ctx: Any, gradient: Tensor, of_statistics: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
    of_samples, (of_bias, of_weight) = _norm_backward(gradient.contiguous(), *ctx.saved_tensors, ctx.slope)
    return of_samples, of_weight, of_bias, None, None


_norm.register_autograd(_gradients, setup_context=_keep)
