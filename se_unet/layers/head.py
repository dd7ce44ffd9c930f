"""From scale features to class scores: scores of each scale, then a projection over the scales."""

import math

import torch
from torch import Tensor, nn

from configs.network import Projection
from se_unet.layers.pointwise import PointwiseConvolution


def project(scores: Tensor, projection: Projection, votes: Tensor | None = None, kept: Tensor | None = None) -> Tensor:
    """Bring the scores of all scales together.

    Mean, maximum, log-sum-exp and a weighted mean over k commute with a shift in scale, up to the two ends of the group.

    Args:
        scores: (B, K, S, Z, Y, X).
        projection: how.
        votes: (B, 1, S, Z, Y, X), for `learned`: a softmax of them over the scales weighs the scores of each voxel.
        kept: (B, S) of bool, the scales that have a say, at least one for each sample; None for all.

    Returns:
        (B, K, Z, Y, X).

    Raises:
        ValueError: `learned` without votes.
    """
    if projection == "learned":
        if votes is None:
            raise ValueError("a learned projection needs votes")
        return (scores * _silence(votes, kept).softmax(2)).sum(2)
    if projection == "mean":
        return scores.mean(2) if kept is None else (scores * _per_scale(kept / kept.sum(1, keepdim=True))).sum(2)
    if projection == "max":
        return _silence(scores, kept).amax(2)
    count = math.log(scores.shape[2]) if kept is None else kept.sum(1).log().reshape(-1, 1, 1, 1, 1)
    return torch.logsumexp(_silence(scores, kept), 2) - count


class ScaleHead(nn.Module):
    """Class scores of a scale-feature map: (B, C, S, Z, Y, X) -> (B, K, Z, Y, X).

    Args:
        channels: of the map.
        classes: K.
        projection: over the scales.
        dropout: probability of leaving out a scale in training; at least one is kept.
    """

    def __init__(self, channels: int, classes: int, projection: Projection = "mean", dropout: float = 0.0):
        super().__init__()
        self.projection, self.dropout = projection, dropout
        self.scores = PointwiseConvolution(channels, classes)
        self.votes = PointwiseConvolution(channels, 1, bias=False) if projection == "learned" else None
        if self.votes is not None:
            nn.init.zeros_(self.votes.weight)  # starts as the mean

    def forward(self, x: Tensor) -> Tensor:
        """Score and project."""
        votes = None if self.votes is None else self.votes(x)
        drops = self.training and self.dropout and x.shape[2] > 1
        kept = draw_kept_scales(x.shape[0], x.shape[2], self.dropout, x.device) if drops else None
        return project(self.scores(x), self.projection, votes, kept)


def _silence(values: Tensor, kept: Tensor | None) -> Tensor:
    """Minus infinity at the scales that are left out, which neither a maximum nor an exponential notices."""
    return values if kept is None else values.masked_fill(~_per_scale(kept), -math.inf)


def _per_scale(values: Tensor) -> Tensor:
    """(B, S) -> (B, 1, S, 1, 1, 1)."""
    return values[:, None, :, None, None, None]


def draw_kept_scales(batch: int, scales: int, probability: float, device: torch.device) -> Tensor:
    """Draw the scales that stay in, each left out with `probability`, at least one kept per sample: (batch, scales) of bool."""
    draws = torch.rand(batch, scales, device=device)
    return (draws >= probability) | (draws == draws.amax(dim=1, keepdim=True))
