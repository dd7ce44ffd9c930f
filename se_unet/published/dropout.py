"""Dropout of scale-feature maps (B, C, S, Z, Y, X)."""

from torch import Tensor, nn
from torch.nn import functional

from se_unet.layers.head import draw_kept_scales
from se_unet.published.norm import fold_scales, unfold_scales


class ScaleEquivariantDropout(nn.Module):
    """Leaves out whole channels in training, over all scales and voxels at once, so that it commutes with a shift in scale.

    Args:
        probability: of a channel to be left out; the others are divided by `1 - probability`.
    """

    def __init__(self, probability: float):
        super().__init__()
        self.probability = _checked(probability)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, S, Z, Y, X) to the same shape."""
        return unfold_scales(functional.dropout3d(fold_scales(x), self.probability, self.training), x.shape[2])

    def extra_repr(self) -> str:
        """Settings, for printing."""
        return f"{self.probability}"


class ScaleDropout(nn.Module):
    """Leaves out whole scales in training, per sample, so that no decision hangs on a single scale.

    At least one scale of each sample is kept, and the kept ones are multiplied by S / kept: the mean over scales is then the mean
    over the kept ones, and its expectation that over all.

    Args:
        probability: of a scale to be left out.
    """

    def __init__(self, probability: float):
        super().__init__()
        self.probability = _checked(probability)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, S, Z, Y, X) to the same shape."""
        if not self.training or self.probability == 0 or x.shape[2] == 1:
            return x
        kept = draw_kept_scales(x.shape[0], x.shape[2], self.probability, x.device)
        factors = kept * (x.shape[2] / kept.sum(dim=1, keepdim=True))
        return x * factors.to(x.dtype)[:, None, :, None, None, None]

    def extra_repr(self) -> str:
        """Settings, for printing."""
        return f"{self.probability}"


def _checked(probability: float) -> float:
    if not 0 <= probability < 1:
        raise ValueError(f"a dropout probability lies in [0, 1), not {probability}")
    return probability
