"""Class scores from scale features: scores at each scale, then a projection over the scales."""

import math

import torch
from torch import Tensor, nn

from configs.network import Projection
from se_unet.layers.pointwise import PointwiseConvolution


def project(scores: Tensor, projection: Projection, votes: Tensor | None = None, kept: Tensor | None = None) -> Tensor:
    """Combine the scores of all scales.

    Mean, maximum, log-sum-exp and a weighted mean over the scales commute with a shift in scale, except at the two ends of the group.

    Args:
        scores: (B, K, S, Z, Y, X).
        projection: kind of combination.
        votes: (B, 1, S, Z, Y, X), for `learned`, which weights the scores of each voxel by a softmax of the votes over the scales.
        kept: (B, S) of bool, the scales that take part, at least one for each sample; None for all.

    Returns:
        (B, K, Z, Y, X).

    Raises:
        ValueError: the projection is `learned` and there are no votes.
    """
    if scores.shape[2] == 1:
        return scores.squeeze(2)  # whatever the projection
    if projection == "learned":
        if votes is None:
            raise ValueError("a learned projection needs votes")
        # In the type of the scores, since autocast would make it float32.
        return (scores * _silence(votes, kept).softmax(2, dtype=scores.dtype)).sum(2, dtype=scores.dtype)
    if projection == "mean":
        return scores.mean(2) if kept is None else (scores * _per_scale(kept / kept.sum(1, keepdim=True))).sum(2)
    if projection == "max":
        return _silence(scores, kept).amax(2)
    count = math.log(scores.shape[2]) if kept is None else kept.sum(1).log().reshape(-1, 1, 1, 1, 1)
    return torch.logsumexp(_silence(scores, kept), 2) - count


class ScaleHead(nn.Module):
    """Class scores of a scale-feature map: (B, C, S, Z, Y, X) -> (B, K, Z, Y, X).

    Args:
        channels: channels of the map.
        classes: number of classes K.
        projection: combination of the scores of all scales.
        dropout: probability of leaving out a scale in training; at least one scale is kept.
    """

    def __init__(self, channels: int, classes: int, projection: Projection = "mean", dropout: float = 0.0):
        super().__init__()
        self.projection, self.dropout = projection, dropout
        self.scores = PointwiseConvolution(channels, classes)
        self.votes = PointwiseConvolution(channels, 1, bias=False) if projection == "learned" else None
        if self.votes is not None:
            nn.init.zeros_(self.votes.weight)  # the projection starts as the mean

    def forward(self, x: Tensor) -> Tensor:
        """Score and project."""
        votes = None if self.votes is None or x.shape[2] == 1 else self.votes(x)
        drops = self.training and self.dropout and x.shape[2] > 1
        kept = draw_kept_scales(x.shape[0], x.shape[2], self.dropout, x.device) if drops else None
        return project(self.scores(x), self.projection, votes, kept)


def _silence(values: Tensor, kept: Tensor | None) -> Tensor:
    """Return the values with minus infinity at the scales that are left out, which a maximum and a sum of exponentials ignore."""
    return values if kept is None else values.masked_fill(~_per_scale(kept), -math.inf)


def _per_scale(values: Tensor) -> Tensor:
    """Reshape (B, S) -> (B, 1, S, 1, 1, 1)."""
    return values[:, None, :, None, None, None]


def draw_kept_scales(batch: int, scales: int, probability: float, device: torch.device) -> Tensor:
    """Draw the scales to keep, (batch, scales) of bool. Each is left out with `probability`, and each sample keeps at least one."""
    draws = torch.rand(batch, scales, device=device)
    return (draws >= probability) | (draws == draws.amax(dim=1, keepdim=True))
