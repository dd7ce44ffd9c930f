"""Winograd's way gives what the direct convolution gives."""

import pytest
import torch
from torch import nn

from se_unet.cpu.layers import for_cpu
from se_unet.cpu.winograd import _BACK, _EXACT_BACK, _EXACT_MIX, _KERNELS, _MIX, FEWEST_SLICES, suits_winograd


def test_four_results_are_exact_and_no_entry_may_change() -> None:
    torch.manual_seed(0)
    slices, taps = torch.randn(6, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    direct = torch.stack([(slices[start : start + 3] * taps).sum() for start in range(4)])

    def filtered(mix: torch.Tensor) -> torch.Tensor:
        return _BACK.double() @ ((_KERNELS @ taps) * (mix.double() @ slices))

    torch.testing.assert_close(filtered(_MIX), direct, atol=1e-12, rtol=1e-12)
    for entry in range(_MIX.numel()):
        changed = _MIX.clone()
        changed.view(-1)[entry] += 1
        assert (filtered(changed) - direct).abs().max() > 1e-3


def test_points_lose_nothing_in_float32() -> None:
    assert torch.equal(_MIX.double(), _EXACT_MIX) and torch.equal(_BACK.double(), _EXACT_BACK)


@pytest.mark.parametrize("depth", [FEWEST_SLICES - 1, FEWEST_SLICES, 13, 16, 19, 40])
@pytest.mark.parametrize("kernel", [(3, 3, 3), (3, 1, 1), (3, 1, 5)])
def test_layers_agree(depth: int, kernel: tuple[int, int, int]) -> None:
    torch.manual_seed(depth)
    layer = nn.Conv3d(24, 16, kernel, padding=tuple(size // 2 for size in kernel), bias=depth % 2 == 0)  # type: ignore[arg-type]
    assert suits_winograd(layer)
    fast = for_cpu(nn.Sequential(layer).eval())
    x = torch.randn(2, 24, depth, 7, 9)
    with torch.no_grad():
        for image in (x, x[:1], x.contiguous(memory_format=torch.channels_last_3d), x.transpose(3, 4)):
            expected = layer(image)
            torch.testing.assert_close(fast(image), expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv3d(24, 16, 3, padding=1, stride=(1, 2, 2)),
        nn.Conv3d(24, 16, 3, padding=2, dilation=2),
        nn.Conv3d(24, 16, 3, padding=1, groups=2),
        nn.Conv3d(24, 16, 3, padding=(0, 1, 1)),
        nn.Conv3d(24, 16, (1, 3, 3), padding=(0, 1, 1)),
        nn.Conv3d(2, 16, 3, padding=1),
    ],
)
def test_others_are_convolved_directly(layer: nn.Conv3d) -> None:
    assert not suits_winograd(layer)
