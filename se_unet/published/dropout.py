"""Dropout of scale-feature maps (B, C, S, Z, Y, X)."""

from torch import Tensor, nn
from torch.nn import functional

from se_unet.published.norm import fold_scales, unfold_scales


class ScaleEquivariantDropout(nn.Module):
    """Dropout of whole channels, over all scales and voxels at once, so that it commutes with a shift in scale.

    Args:
        probability: probability of leaving out a channel; the others are divided by `1 - probability`.
    """

    def __init__(self, probability: float):
        super().__init__()
        if not 0 <= probability < 1:
            raise ValueError(f"the dropout probability must be in [0, 1), not {probability}")
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, S, Z, Y, X) to the same shape."""
        return unfold_scales(functional.dropout3d(fold_scales(x), self.probability, self.training), x.shape[2])

    def extra_repr(self) -> str:
        """Return the settings, for printing."""
        return f"{self.probability}"
