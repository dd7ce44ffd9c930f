"""Image pyramid: one smooth network applied to the image at several resolutions; the class scores are resampled back and projected.

All scales share the weights, and the cost of a scale falls with the third power of its factor. Only the resampling limits the scale
equivariance. The pyramid serves as a comparison for the scale group.
"""

import torch
from torch import Tensor, nn

from configs.network import NetworkConfig
from se_unet.families import ScaleFamily
from se_unet.layers.head import draw_kept_scales, project
from se_unet.separable import apply_separable, full_precision, gaussian_matrix, interpolation_matrix, keep
from se_unet.unet import UNet


class Pyramid(nn.Module):
    """A one-scale network applied to the image shrunk by 1, a, a^2, ..., with the scores projected over the scales.

    Args:
        config: description with family `pyramid`; its scale group sets the step a and the number of scales.

    Raises:
        ValueError: the description has no scale group.
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        if config.scale_group is None:
            raise ValueError("a pyramid needs a scale group")
        self.config = config
        single = config.scale_group.model_copy(update={"number": 1})
        member = config.model_copy(update={"family": "se", "scale_group": single, "projection": "mean"})
        self.factors = tuple(config.scale_group.step**k for k in range(config.scale_group.number))
        self.network = UNet(member, ScaleFamily(member))
        channels = config.features[: len(self.network.heads)]
        learned = config.projection == "learned"
        self.votes = nn.ModuleList([_even_votes(count) for count in channels] if learned else [])

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Return class scores, as `UNet.forward` does."""
        supervised = self.training and self.config.deep_supervision
        grids = self._grids() if supervised else self._grids()[:1]
        members = [self._member(image, factor, grids) for factor in self.factors]
        kept = self._kept_scales(image)
        outputs = []
        for stage in range(len(grids)):
            scores = torch.stack([member[stage][0] for member in members], 2)
            votes = torch.stack([member[stage][1] for member in members], 2) if self.votes else None
            outputs.append(project(scores, self.config.projection, votes, kept))
        return outputs if supervised else outputs[0]

    def _grids(self) -> list[tuple[int, ...]]:
        """Return the stride of each decoder stage's grid relative to the image."""
        grids: list[tuple[int, ...]] = []
        total = (1, 1, 1)
        for strides in self.config.strides[: len(self.network.heads)]:
            total = (total[0] * strides[0], total[1] * strides[1], total[2] * strides[2])
            grids.append(total)
        return grids

    def _kept_scales(self, image: Tensor) -> Tensor | None:
        """Return the scales that are not dropped, (B, S) of bool and the same at every stage; None keeps all."""
        if not (self.training and self.config.scale_dropout and len(self.factors) > 1):
            return None
        return draw_kept_scales(image.shape[0], len(self.factors), self.config.scale_dropout, image.device)

    def _member(self, image: Tensor, factor: float, grids: list[tuple[int, ...]]) -> list[tuple[Tensor, Tensor]]:
        """Return the scores and votes of one scale at each decoder stage, on the image's grids."""
        sizes = tuple(image.shape[2:])
        shrunk = tuple(_shrunk_size(n, factor, stride) for n, stride in zip(sizes, self.config.total_stride, strict=True))
        features = self.network.stages(_shrink(image, shrunk, factor))
        results = []
        for stage, grid in enumerate(grids):
            x = features[stage]
            scores = self.network.run(self.network.heads[stage], x)
            vote = self.votes[stage](x[:, :, 0]) if self.votes else scores[:, :1]
            results.append((_grow(scores, sizes, shrunk, factor, grid), _grow(vote, sizes, shrunk, factor, grid)))
        return results


def _even_votes(channels: int) -> nn.Conv3d:
    """Return a layer of votes that starts as the mean over scales."""
    votes = nn.Conv3d(channels, 1, 1, bias=False)
    nn.init.zeros_(votes.weight)
    return votes


def _shrunk_size(n: int, factor: float, stride: int) -> int:
    """Return the voxels of a shrunk axis, rounded up to a multiple of the network's total stride."""
    return -(-int(-(-n // factor)) // stride) * stride


def _shrink(image: Tensor, shrunk: tuple[int, ...], factor: float) -> Tensor:
    """Return the image shrunk by `factor`, on a grid of `shrunk` voxels."""
    if factor == 1:
        return image
    pairs = zip(image.shape[2:], shrunk, strict=True)
    return apply_separable(image, [_shrink_matrix(n, m, factor, image.device).to(image.dtype) for n, m in pairs])


def _grow(scores: Tensor, sizes: tuple[int, ...], shrunk: tuple[int, ...], factor: float, grid: tuple[int, ...]) -> Tensor:
    """Resample scores of the shrunk image to the grid of a decoder stage, whose stride relative to the image is `grid`."""
    if factor == 1:
        return scores
    triples = zip(sizes, shrunk, grid, strict=True)
    return apply_separable(
        scores, [_grow_matrix(n, m, factor, stride, scores.device).to(scores.dtype) for n, m, stride in triples]
    )


@keep
def _shrink_matrix(n: int, m: int, factor: float, device: torch.device) -> Tensor:
    """Return (m, n) float32: low-pass and cubic spline, with the centres of both axes aligned and the border replicated."""
    positions = (torch.arange(m, dtype=torch.float32, device=device) - (m - 1) / 2) * factor + (n - 1) / 2
    with full_precision(device):
        lowpass = gaussian_matrix(n, 0.5 * (factor**2 - 1) ** 0.5, torch.float32, device)
        return interpolation_matrix(positions, n, 3) @ lowpass


@keep
def _grow_matrix(n: int, m: int, factor: float, stride: int, device: torch.device) -> Tensor:
    """Return (n / stride, m / stride) float32: linear interpolation of scores to the image's grid of a decoder stage."""
    voxels = torch.arange(0, n, stride, dtype=torch.float32, device=device)
    positions = ((voxels - (n - 1) / 2) / factor + (m - 1) / 2) / stride
    return interpolation_matrix(positions, m // stride, 1)
