"""Faster scale-equivariant convolutions of a trained network on CPUs, with the same results up to rounding.

The blur along Z is a matrix product, and so is the mixing of slices in Winograd's minimal filtering. Both are merged into one product, so
that the mixing adds no cost. Where the filtering does not pay off, oneDNN convolves; PyTorch's own implementation is several times slower
on small maps.
"""

import torch
from torch import Tensor, nn

from se_unet.cpu.winograd import FEWEST_CHANNELS, FEWEST_SLICES, MinimalFilter, mixings, stacked
from se_unet.layers.convolution import GroupConvolution, LiftingConvolution, ScaleConvolution
from se_unet.layers.grids import band_matrix
from se_unet.layers.row_blur import blur_rows

_MARGIN = 1  # half the width of a kernel of three taps
_BORDERS = ("replicate", "zero")


class CPUScaleConvolution(nn.Module):
    """A trained lifting or group convolution for which `suits_scales` holds."""

    def __init__(self, source: ScaleConvolution):
        super().__init__()
        self.source = source
        with torch.no_grad():
            kernels = source.kernels("factorised")
        self._kernels = [kernel.contiguous(memory_format=torch.channels_last_3d) for kernel in kernels]
        is_wide = kernels.shape[2] >= FEWEST_CHANNELS
        self._filters = [MinimalFilter(kernel, source.bias, (0, 0)) for kernel in kernels] if is_wide else []

    def forward(self, x: Tensor) -> Tensor:
        """Convolve an image (B, C, Z, Y, X) or a map (B, C, S, Z, Y, X) -> (B, C', S, Z, Y, X), channels innermost."""
        x = self.source.gathered(x) if isinstance(self.source, GroupConvolution) else x[:, :, None]
        maps = x.movedim(1, -1).contiguous()
        scales = range(self.source.scales)
        results = [self._convolve(image[scale if len(image) > 1 else 0], scale) for image in maps for scale in scales]
        return stacked(results).unflatten(0, (len(maps), len(scales))).movedim(-1, 1)

    def _convolve(self, rows: Tensor, scale: int) -> Tensor:
        """(Z, Y, X, C) -> (Z, Y, X, C')."""
        (depth, height), border = rows.shape[:2], self.source.border
        z, y, x = (taps[scale : scale + 1] for taps in self.source.functions.blurs() if taps is not None)
        wide = blur_rows(rows[None], x[0], border, _MARGIN)[0]
        high = band_matrix(y, height, border, margin=_MARGIN)[0] @ wide.flatten(2)
        if self._filters and depth >= FEWEST_SLICES:
            mixed = mixings(band_matrix(z.double(), depth, border, margin=_MARGIN)[0])
            return self._filters[scale](high.unflatten(2, wide.shape[2:]), mixed)
        deep = band_matrix(z, depth, border, margin=_MARGIN)[0] @ high.flatten(1)
        padded = deep.view(len(deep), high.shape[1], *wide.shape[2:])[None].movedim(-1, 1)
        convolved = torch.mkldnn_convolution(padded, self._kernels[scale], self.source.bias, [0] * 3, [1] * 3, [1] * 3, 1)
        return convolved[0].movedim(0, -1)


def suits_scales(layer: ScaleConvolution) -> bool:
    """Return whether `CPUScaleConvolution` can replace a layer."""
    has_blurs = all(taps is not None and taps.shape[-1] // 2 >= _MARGIN for taps in layer.functions.blurs())
    is_plain = type(layer) in (GroupConvolution, LiftingConvolution) and layer.border in _BORDERS and layer.engine != "dense"
    return is_plain and has_blurs and layer.weight.dtype == torch.float32 and layer.functions.stencils.shape[2:] == (3, 3, 3)
