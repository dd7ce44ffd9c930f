"""Replace the layers of a trained network by faster ones for CPUs, with the same results up to rounding.

PyTorch computes small 3D convolutions, 1 x 1 x 1 convolutions and transposed convolutions several times slower than oneDNN. Here oneDNN
computes them, with channels innermost in weights and maps. Convolutions with three taps along Z use Winograd's minimal filtering where
that is faster. A transposed convolution whose kernel is as large as its stride becomes one matrix product.
"""

import copy

import torch
from torch import Tensor, nn

from se_unet.cpu.scale_layers import CPUScaleConvolution, suits_scales
from se_unet.cpu.winograd import FEWEST_SLICES, WinogradConvolution, suits_winograd
from se_unet.layers.convolution import ScaleConvolution


class OneDNNConvolution(nn.Module):
    """A zero-padded `torch.nn.Conv3d` that oneDNN computes at every size."""

    def __init__(self, source: nn.Conv3d):
        super().__init__()
        self.weight = nn.Parameter(source.weight.detach().contiguous(memory_format=torch.channels_last_3d), requires_grad=False)
        self.bias = source.bias
        self.padding = [int(size) for size in source.padding]
        self.stride, self.dilation, self.groups = list(source.stride), list(source.dilation), source.groups
        self.deep = WinogradConvolution(source) if suits_winograd(source) else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Z, Y, X) -> (B, C', Z', Y', X')."""
        if self.deep is not None and x.shape[2] >= FEWEST_SLICES:
            return self.deep(x)
        return torch.mkldnn_convolution(x, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups)


class PatchwiseUp(nn.Module):
    """A `torch.nn.ConvTranspose3d` with kernel and stride (d, h, w): every voxel becomes a block of d x h x w voxels."""

    def __init__(self, source: nn.ConvTranspose3d):
        super().__init__()
        inputs, outputs, *self.block = source.weight.shape
        self.outputs = outputs
        rows = source.weight.detach().permute(2, 3, 4, 1, 0).reshape(-1, inputs)  # (d h w C', C)
        self.weight = nn.Parameter(rows.contiguous(), requires_grad=False)
        bias = torch.zeros(outputs) if source.bias is None else source.bias.detach()
        self.bias = nn.Parameter(bias.repeat(len(rows) // outputs), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Z, Y, X) -> (B, C', d Z, h Y, w X), channels innermost."""
        batch, _, depth, height, width = x.shape
        d, h, w = self.block
        blocks = nn.functional.linear(x.movedim(1, -1), self.weight, self.bias)
        blocks = blocks.reshape(batch, depth, height, width, d, h, w, self.outputs).permute(0, 1, 4, 2, 5, 3, 6, 7)
        return blocks.reshape(batch, depth * d, height * h, width * w, self.outputs).movedim(-1, 1)


def for_cpu(network: nn.Module) -> nn.Module:
    """Return a copy of a network in evaluation mode with faster layers, or the network itself where no layer can be replaced."""
    if not torch.backends.mkldnn.is_available() or not any(_rewritten(module) for module in network.modules()):
        return network
    copied = copy.deepcopy(network).requires_grad_(False)
    for parent in list(copied.modules()):
        for name, child in parent.named_children():
            faster = _rewritten(child)
            if faster is not None:
                setattr(parent, name, faster)
    return copied.eval()


def _rewritten(module: nn.Module) -> nn.Module | None:
    """Return a faster layer with the same results, or None where there is none."""
    if type(module) is nn.Conv3d and module.padding_mode == "zeros" and not isinstance(module.padding, str):
        return OneDNNConvolution(module) if module.weight.dtype == torch.float32 else None
    if type(module) is nn.ConvTranspose3d and module.stride == module.kernel_size and module.groups == 1:
        moved = any((*module.padding, *module.output_padding)) or set(module.dilation) != {1}
        return None if moved else PatchwiseUp(module)
    if isinstance(module, ScaleConvolution) and suits_scales(module):
        return CPUScaleConvolution(module)
    return None
