"""From scale features to class scores: scores of each scale, then a projection over the scales."""

import torch
from torch import Tensor, nn

from configs.network import Projection
from se_unet.pointwise import PointwiseConvolution


def project(scores: Tensor, projection: Projection, votes: Tensor | None = None) -> Tensor:
    """Bring the scores of all scales together.

    Mean, maximum, log-sum-exp and a weighted mean over k commute with a shift in scale, up to the two ends of the group.

    Args:
        scores: (B, K, S, Z, Y, X).
        projection: how.
        votes: (B, 1, S, Z, Y, X), for `learned`: a softmax of them over the scales weighs the scores of each voxel.

    Returns:
        (B, K, Z, Y, X).

    Raises:
        ValueError: `learned` without votes.
    """
    if projection == "mean":
        return scores.mean(2)
    if projection == "max":
        return scores.amax(2)
    if projection == "logsumexp":
        return torch.logsumexp(scores, 2) - float(torch.tensor(scores.shape[2]).log())
    if votes is None:
        raise ValueError("a learned projection needs votes")
    return (scores * votes.softmax(2)).sum(2)


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
        if self.training and self.dropout and x.shape[2] > 1:
            x = x[:, :, _kept_scales(x.shape[2], self.dropout)]
        votes = None if self.votes is None else self.votes(x)
        return project(self.scores(x), self.projection, votes)


def _kept_scales(scales: int, dropout: float) -> Tensor:
    kept = torch.rand(scales) >= dropout
    kept[torch.randint(scales, ())] = True
    return kept.nonzero()[:, 0]
