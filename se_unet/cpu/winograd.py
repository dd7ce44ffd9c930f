"""3D convolutions on CPUs with half of the multiplications: Winograd's minimal filtering along Z, 2D convolutions by oneDNN in-plane.

F(4, 3) computes four neighbouring slices of the result from six slices of the map: it mixes them into six others, convolves each with a
2D kernel, and mixes the six results back. This takes 6 x 9 products instead of 4 x 27 (Winograd, "Arithmetic Complexity of Computations",
1980; Lavin and Gray, arXiv 1509.09308, section 4). Compared with float64, a network is as accurate as with direct sums.

Only the slowest axis is filtered this way. Mixing whole slices is a matrix product at the speed of memory; filtering two or three axes
would take as many additions as it saves multiplications.
"""

from collections.abc import Sequence
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor, nn

# Interpolation points besides infinity. Rounding errors are a third smaller than at 0, 1, -1, 2, -2, and close to those of direct sums.
_POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)


def _interpolation() -> tuple[Tensor, Tensor, Tensor]:
    """Return the matrices that mix six slices, three taps, and six products back to four results, in float64.

    They are B^T, G and A^T of Lavin and Gray.
    """
    others = [[other for other in _POINTS if other != point] for point in _POINTS]
    slices = [np.append(np.poly(rest)[::-1], 0) for rest in others] + [np.poly(_POINTS)[::-1]]
    taps = [np.power(point, range(3)) / np.prod(np.subtract(point, rest)) for point, rest in zip(_POINTS, others, strict=True)]
    results = [[*np.power(_POINTS, power), float(power == 3)] for power in range(4)]
    return torch.tensor(np.array(slices)), torch.tensor(np.array([*taps, [0, 0, 1]])), torch.tensor(results, dtype=torch.float64)


_EXACT_MIX, _KERNELS, _EXACT_BACK = _interpolation()
_MIX, _BACK = _EXACT_MIX.float(), _EXACT_BACK.float()  # exact in float32
# Shares of the bias for the six products, so that each of the four results holds it once.
_BIAS_SHARES = (torch.linalg.pinv(_EXACT_BACK) @ torch.ones(4, dtype=torch.float64)).tolist()
_SLICES, _TAPS = len(_BACK), _KERNELS.shape[1]
_BLOCKS = 4  # blocks of four slices at a time: enough for one call of oneDNN, few enough for the caches
FEWEST_SLICES = 8  # with fewer, too much of the last block is empty
FEWEST_CHANNELS = 16  # with fewer, mixing takes as long as the products


Mixings = tuple[tuple[slice, Tensor], ...]  # for each block of four results: the slices of the map that it needs, and (6, slices)


def mixings(padded: Tensor) -> Mixings:
    """Return the mixings of the slices of a map, combined with an operator along Z that pads the map.

    The operator (Z + 2, Z) float64 leads from the slices of the map to the padded slices to convolve; it is a band around the diagonal.
    """
    found = []
    for start in range(0, len(padded) - _TAPS + 1, _SLICES):
        rows = padded[start : start + len(_MIX)]  # rows beyond the end count as zero
        matrix = _EXACT_MIX[:, : len(rows)] @ rows
        needed = rows.any(0).nonzero().flatten().tolist()
        columns = slice(needed[0], needed[-1] + 1)
        found.append((columns, matrix[:, columns].float().contiguous()))
    return tuple(found)


@lru_cache(maxsize=64)
def zero_padded(depth: int) -> Mixings:
    """Return the mixings for maps of `depth` slices that are padded with zeros."""
    return mixings(nn.functional.pad(torch.eye(depth, dtype=torch.float64), (0, 0, 1, 1)))


def stacked(maps: Sequence[Tensor]) -> Tensor:
    """Stack maps along a new first axis, without a copy where there is only one."""
    return torch.stack(list(maps)) if len(maps) > 1 else maps[0][None]


class MinimalFilter:
    """A kernel of three taps along Z, as six 2D kernels for the mixed slices.

    Args:
        weight: (O, I, 3, K_y, K_x) float32.
        bias: (O,), or None.
        padding: number of zeros added at each end of Y and X.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, padding: Sequence[int]):
        self._weight = weight.detach()
        self._biases = [None if bias is None else bias.detach() * share for share in _BIAS_SHARES]
        self._padding = list(padding)

    @cached_property
    def _planes(self) -> list[Tensor]:
        """Six 2D kernels (O, I, K_y, K_x), computed at the first deep map because some layers never see one."""
        mixed = torch.einsum("kz,oizyx->koiyx", _KERNELS, self._weight.double()).float()
        return [plane.contiguous(memory_format=torch.channels_last) for plane in mixed]

    def __call__(self, x: Tensor, mixed: Mixings) -> Tensor:
        """Convolve a contiguous map (Z, Y, X, C) -> (Z, Y', X', C')."""
        depth, shape, rows = len(x), x.shape[1:], x.flatten(1)
        result: Tensor | None = None
        for first in range(0, len(mixed), _BLOCKS):
            some = mixed[first : first + _BLOCKS]
            slices = rows.new_empty(len(_MIX), len(some), rows.shape[1])
            for place, (columns, matrix) in enumerate(some):
                torch.mm(matrix, rows[columns], out=slices[:, place])
            convolved = torch.stack([self._plane(index, slices[index].view(len(some), *shape)) for index in range(len(_MIX))])
            result = x.new_empty(depth, *convolved.shape[2:]) if result is None else result
            for place in range(len(some)):
                block = result[(first + place) * _SLICES : (first + place + 1) * _SLICES].flatten(1)
                torch.mm(_BACK[: len(block)], convolved[:, place].flatten(1), out=block)
        return x if result is None else result

    def _plane(self, index: int, x: Tensor) -> Tensor:
        """Convolve slices (N, Y, X, C) -> (N, Y', X', C') with one of the 2D kernels."""
        planes = torch.mkldnn_convolution(
            x.movedim(-1, 1), self._planes[index], self._biases[index], self._padding, [1, 1], [1, 1], 1
        )
        return planes.movedim(1, -1)


class WinogradConvolution(nn.Module):
    """A `torch.nn.Conv3d` for which `suits_winograd` holds."""

    def __init__(self, source: nn.Conv3d):
        super().__init__()
        self._filter = MinimalFilter(source.weight, source.bias, [int(size) for size in source.padding[1:]])

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Z, Y, X) -> (B, C', Z, Y', X'), channels innermost."""
        maps = x.movedim(1, -1).contiguous()
        return stacked([self._filter(one, zero_padded(len(one))) for one in maps]).movedim(-1, 1)


def suits_winograd(convolution: nn.Conv3d) -> bool:
    """Return whether the minimal filtering applies to a convolution and is faster on maps of at least `FEWEST_SLICES` slices."""
    alike = set(convolution.stride) == set(convolution.dilation) == {1} and convolution.groups == 1
    return (
        alike
        and convolution.kernel_size[0] == _TAPS
        and convolution.padding[0] == _TAPS // 2
        and convolution.in_channels >= FEWEST_CHANNELS
    )
