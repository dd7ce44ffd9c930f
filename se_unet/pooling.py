"""Spatial pooling of scale-feature maps, each scale by itself."""

from torch import Tensor, nn
from torch.nn import functional

Size = int | tuple[int, int, int]


class ScaleMaxPool(nn.Module):
    """Largest value within each window.

    Args:
        kernel_size: window in voxels, per axis (Z, Y, X) or for all.
        stride: step between windows; the window itself where not given.
        padding: voxels of minus infinity around the map.
    """

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0):
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, S, Z, Y, X) to (B, C, S, Z', Y', X')."""
        pooled = functional.max_pool3d(x.flatten(1, 2), self.kernel_size, self.stride, self.padding)
        return pooled.unflatten(1, x.shape[1:3])


class ScaleAveragePool(nn.Module):
    """Mean over each window.

    Args:
        kernel_size: window in voxels, per axis (Z, Y, X) or for all.
        stride: step between windows; the window itself where not given.
        padding: voxels around the map, which do not count in the mean.
    """

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0):
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, S, Z, Y, X) to (B, C, S, Z', Y', X')."""
        pooled = functional.avg_pool3d(x.flatten(1, 2), self.kernel_size, self.stride, self.padding, count_include_pad=False)
        return pooled.unflatten(1, x.shape[1:3])
