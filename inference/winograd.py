"""3D convolutions on CPUs with half of the multiplications: Winograd's minimal filtering along Z, 2D convolutions by oneDNN across it.

F(4, 3): four neighbouring slices of the result come from six slices of the map. They are mixed into six others, each is convolved with
a 2D kernel, and the six results are mixed back: 6 x 9 products where 4 x 27 are usual. (Winograd, "Arithmetic Complexity of
Computations", 1980; Lavin and Gray, arXiv 1509.09308, section 4.) Against float64, a network is as exact as with direct sums.

Only the slowest axis is treated so: mixing whole slices is a matrix product at the speed of memory, while the sums that two or three axes
take cost as much as the products they save.
"""

from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

_POINTS = (
    0.0,
    0.75,
    -0.75,
    1.5,
    -1.5,
)  # and infinity; rounding is a third less than at 0, 1, -1, 2, -2, and close to the direct sums'


def _interpolation() -> tuple[Tensor, Tensor, Tensor]:
    """Mixing of six slices, of three taps, and of six products back to four results (Lavin and Gray: B^T, G, A^T), in float64."""
    others = [[other for other in _POINTS if other != point] for point in _POINTS]
    slices = [np.append(np.poly(rest)[::-1], 0) for rest in others] + [np.poly(_POINTS)[::-1]]
    taps = [np.power(point, range(3)) / np.prod(np.subtract(point, rest)) for point, rest in zip(_POINTS, others, strict=True)]
    results = [[*np.power(_POINTS, power), float(power == 3)] for power in range(4)]
    return torch.tensor(np.array(slices)), torch.tensor(np.array([*taps, [0, 0, 1]])), torch.tensor(results, dtype=torch.float64)


_EXACT_MIX, _KERNELS, _EXACT_BACK = _interpolation()
_MIX, _BACK = _EXACT_MIX.float(), _EXACT_BACK.float()  # without loss
_BIAS_SHARES = (
    torch.linalg.pinv(_EXACT_BACK) @ torch.ones(4, dtype=torch.float64)
).tolist()  # each result then holds the bias once
_SLICES, _TAPS = len(_BACK), _KERNELS.shape[1]
_BLOCKS = 4  # of four slices at a time: enough for one call of oneDNN, few enough for the caches
FEWEST_SLICES = 8  # below, the last block is too empty
FEWEST_CHANNELS = 16  # below, mixing takes as long as the products


class WinogradConvolution(nn.Module):
    """A `torch.nn.Conv3d` of three taps along Z, zero-padded by one there, without stride; see `suits`."""

    def __init__(self, source: nn.Conv3d):
        super().__init__()
        self.weight, self.bias = source.weight.detach(), source.bias
        self.padding = [int(size) for size in source.padding[1:]]

    @cached_property
    def planes(self) -> list[Tensor]:
        """The six 2D kernels, (O, I, K_y, K_x) each."""
        mixed = torch.einsum("kz,oizyx->koiyx", _KERNELS, self.weight.double()).float()
        return [plane.contiguous(memory_format=torch.channels_last) for plane in mixed]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Z, Y, X) -> (B, C', Z, Y', X'), channels innermost."""
        maps = x.movedim(1, -1).contiguous()
        results = [self._convolve(one) for one in maps]
        return (torch.stack(results) if len(results) > 1 else results[0][None]).movedim(-1, 1)

    def _convolve(self, x: Tensor) -> Tensor:
        """(Z, Y, X, C) -> (Z, Y', X', C')."""
        depth, shape = len(x), x.shape[1:]
        rows, result = x.flatten(1), None
        blocks = -(-depth // _SLICES)
        for first in range(0, blocks, _BLOCKS):
            some = range(first, min(first + _BLOCKS, blocks))
            mixed = rows.new_empty(len(_MIX), len(some), rows.shape[1])
            for place, block in enumerate(some):
                start = block * _SLICES - _TAPS // 2
                inside = range(max(start, 0), min(start + len(_MIX), depth))  # beyond, the map is zero
                columns = _MIX[:, inside.start - start : inside.stop - start]
                torch.mm(columns, rows[inside.start : inside.stop], out=mixed[:, place])
            convolved = torch.stack([self._plane(index, mixed[index].view(len(some), *shape)) for index in range(len(_MIX))])
            result = x.new_empty(depth, *convolved.shape[2:]) if result is None else result
            for place, block in enumerate(some):
                slices = result[block * _SLICES : (block + 1) * _SLICES].flatten(1)
                torch.mm(_BACK[: len(slices)], convolved[:, place].flatten(1), out=slices)
        return x if result is None else result

    def _plane(self, index: int, x: Tensor) -> Tensor:
        """(N, Y, X, C) -> (N, Y', X', C') with one of the 2D kernels."""
        bias = None if self.bias is None else self.bias * _BIAS_SHARES[index]
        return torch.mkldnn_convolution(x.movedim(-1, 1), self.planes[index], bias, self.padding, [1, 1], [1, 1], 1).movedim(
            1, -1
        )


def suits(convolution: nn.Conv3d) -> bool:
    """Whether Winograd's way applies to a convolution and pays for it, with maps of `FEWEST_SLICES` and more."""
    alike = set(convolution.stride) == set(convolution.dilation) == {1} and convolution.groups == 1
    return (
        alike
        and convolution.kernel_size[0] == _TAPS
        and convolution.padding[0] == _TAPS // 2
        and convolution.in_channels >= FEWEST_CHANNELS
    )
