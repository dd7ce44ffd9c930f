"""Normalisation of scale-feature maps (B, C, S, Z, Y, X) with statistics pooled over scale and space.

Separate statistics would give every scale its own gain and break the equivariance; pooled statistics commute with a shift in scale. Scale
and Z are folded into one axis, so that PyTorch's native layers apply.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


def fold_scales(x: Tensor) -> Tensor:
    """Return a view of (B, C, S, Z, Y, X) as (B, C, S * Z, Y, X).

    Raises:
        ValueError: the tensor does not have six axes.
    """
    if x.dim() != 6:
        raise ValueError(f"a scale-feature map must be (B, C, S, Z, Y, X), but the shape is {tuple(x.shape)}")
    return x.flatten(2, 3)


def unfold_scales(x: Tensor, scales: int) -> Tensor:
    """Return (B, C, S * Z, Y, X) as (B, C, S, Z, Y, X), the inverse of `fold_scales`."""
    return x.unflatten(2, (scales, -1))


class ScaleBatchNorm(nn.BatchNorm3d):
    """Batch normalisation of each channel over batch, scale and space.

    The arguments are those of `torch.nn.BatchNorm3d`. The running variance is unbiased, as in PyTorch. Without running statistics,
    evaluation uses the statistics of the current batch.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, C, S, Z, Y, X) to the same shape."""
        return unfold_scales(super().forward(fold_scales(input)), input.shape[2])


class ScaleInstanceNorm(nn.Module):
    """Instance normalisation of each sample and channel over scale and space.

    Args:
        num_features: number of channels C.
        eps: constant added to the variance.
        momentum: weight of the newest statistics in the running ones.
        affine: whether to learn a factor and an offset for each channel, shared by all scales.
        track_running_stats: whether to keep running means and (biased) variances, averaged over the batch, for evaluation.
    """

    running_mean: Tensor | None
    running_var: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        track_running_stats: bool = False,
    ):
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features)) if affine else None
        self.register_buffer("running_mean", torch.zeros(num_features) if track_running_stats else None)
        self.register_buffer("running_var", torch.ones(num_features) if track_running_stats else None)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, S, Z, Y, X) to the same shape."""
        folded = fold_scales(x)
        if self.running_mean is not None and self.running_var is not None:
            if not self.training:
                normalised = functional.batch_norm(
                    folded, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
                )
                return unfold_scales(normalised, x.shape[2])
            self._track(folded, self.running_mean, self.running_var)
        return unfold_scales(functional.instance_norm(folded, weight=self.weight, bias=self.bias, eps=self.eps), x.shape[2])

    @torch.no_grad()
    def _track(self, folded: Tensor, running_mean: Tensor, running_var: Tensor) -> None:
        # PyTorch's running variance is unbiased; this is the biased variance of the normalisation itself
        variance, mean = torch.var_mean(folded.to(running_mean.dtype), dim=(2, 3, 4), correction=0)
        running_mean.lerp_(mean.mean(0), self.momentum)
        running_var.lerp_(variance.mean(0), self.momentum)

    def extra_repr(self) -> str:
        """Return the settings, for printing."""
        return f"{self.num_features}, eps={self.eps}, affine={self.weight is not None}, tracking={self.running_mean is not None}"
