"""Laws of the sliding window, on small stand-in networks."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor, nn

from inference.engine.ensemble import count_tiles
from inference.engine.sliding_window import axis_coverage, axis_starts, axis_weights
from tests.inference.engine.whole import predict_volume, tile_starts

PATCH = (8, 10, 6)


def pointwise(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv3d(2, 4, 1), nn.Tanh(), nn.Conv3d(4, 3, 1)).eval()


def convolution(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Conv3d(2, 3, 3, padding=1).eval()


class PatchMean(nn.Module):
    """Depends on where the tiles lie: the mean of each tile, everywhere in it."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3, 4), keepdim=True).expand(-1, -1, *x.shape[2:])


class Greedy(nn.Module):
    """Runs out of GPU memory above a number of tiles."""

    def __init__(self, most: int):
        super().__init__()
        self.most = most
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        if len(x) > self.most:
            raise torch.cuda.OutOfMemoryError("full")
        return 2 * x


@settings(max_examples=200, deadline=None)
@given(patch=st.integers(1, 40), extra=st.integers(0, 200), step=st.floats(0.1, 1.0))
def test_tiles_cover_an_axis_evenly(patch: int, extra: int, step: float) -> None:
    starts = axis_starts(patch + extra, patch, step)
    assert starts[0] == 0 and starts[-1] == extra
    gaps = [second - first for first, second in pairwise(starts)]
    assert all(1 <= gap <= patch * step + 1 for gap in gaps)
    assert not gaps or max(gaps) - min(gaps) <= 1
    coverage = axis_coverage(patch + extra, patch, step)
    assert (coverage >= 3e-4).all()


def test_tiles_are_counted_without_a_list() -> None:
    for shape in ((17, 23, 11), (8, 10, 6), (3, 40, 60)):
        padded = tuple(max(pair) for pair in zip(shape, PATCH, strict=True))
        assert count_tiles(shape, PATCH, 0.5) == len(tile_starts(padded, PATCH, 0.5))
    assert count_tiles((10**12, 10**12, 10**12), PATCH, 0.5) > 10**33


def test_tiles_of_the_peer() -> None:
    """Worked out by hand from the rule: 110 voxels, patch 64, half a step of 32 -> 3 tiles, 23 voxels apart."""
    assert axis_starts(110, 64, 0.5) == [0, 23, 46]
    assert axis_starts(64, 64, 0.5) == [0]
    assert tile_starts((2, 2, 3), (2, 2, 2), 0.5) == [(0, 0, 0), (0, 0, 1)]


def test_weights_are_a_gaussian_of_an_eighth_of_the_patch() -> None:
    weights = axis_weights(64)
    assert weights.argmax() == 32 and weights[32] == 1
    assert weights[40].item() == pytest.approx(0.6065, abs=1e-4)  # one sigma away


def test_weights_are_those_of_the_peer() -> None:
    """A unit impulse in the middle of the patch, blurred by sigma = patch / 8."""
    impulse = np.zeros((16, 12, 7))
    impulse[8, 6, 3] = 1
    blurred = ndimage.gaussian_filter(impulse, [2, 1.5, 7 / 8], mode="constant")
    z, y, x = (axis_weights(size) for size in impulse.shape)
    ours = z[:, None, None] * y[:, None] * x
    np.testing.assert_allclose(ours.numpy(), blurred / blurred.max(), rtol=1e-5)


@pytest.mark.parametrize("step", [0.3, 0.5, 0.75, 1.0])
def test_a_pointwise_network_sees_no_tiles(step: float) -> None:
    network = pointwise()
    image = torch.randn(2, 17, 23, 11)
    with torch.no_grad():
        whole = network(image[None])[0]
    torch.testing.assert_close(predict_volume(network, image, PATCH, step=step), whole, atol=2e-6, rtol=1e-5)


def test_a_network_of_whole_tiles_does_see_them() -> None:
    image = torch.randn(1, 17, 23, 11)
    whole = PatchMean()(image[None])[0]
    assert (predict_volume(PatchMean(), image, PATCH) - whole).abs().max() > 0.05


def test_a_convolution_is_right_where_every_tile_sees_enough() -> None:
    """A tile's outermost voxels see zeros instead of the image; Gaussian weights make them count little, but not nothing."""
    network = convolution()
    image = torch.randn(2, 24, 24, 24)
    with torch.no_grad():
        whole = network(image[None])[0]
    tiled = predict_volume(network, image, (16, 16, 16))
    edge = {0, 8, 15, 23}  # first and last voxels of the tiles at 0 and 8
    inner = [position for position in range(24) if position not in edge]
    assert axis_starts(24, 16, 0.5) == [0, 8]
    difference = (tiled - whole).abs()
    assert difference[:, inner][:, :, inner][:, :, :, inner].max() < 1e-5
    assert difference.max() > 1e-5


@pytest.mark.parametrize("batch", [2, 3, 100])
def test_the_number_of_tiles_at_a_time_does_not_matter(batch: int) -> None:
    network = convolution()
    image = torch.randn(2, 17, 23, 11)
    one = predict_volume(network, image, PATCH, tile_batch=1)
    torch.testing.assert_close(predict_volume(network, image, PATCH, tile_batch=batch), one, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(3, 4, 5), (8, 4, 6), (1, 30, 1), (9, 9, 5)])
def test_small_images_are_padded_and_cropped_back(shape: tuple[int, int, int]) -> None:
    network = pointwise()
    image = torch.randn(2, *shape)
    with torch.no_grad():
        whole = network(image[None])[0]
    torch.testing.assert_close(predict_volume(network, image, PATCH), whole, atol=2e-6, rtol=1e-5)


def test_padding_is_zero_on_both_sides() -> None:
    image = torch.ones(1, 4, 10, 6)  # 4 of the patch's 8 slices
    assert torch.allclose(predict_volume(PatchMean(), image, PATCH), torch.tensor(0.5))
    network = nn.Conv3d(1, 1, 3, padding=1, bias=False)
    nn.init.ones_(network.weight)
    sums = predict_volume(network, image, PATCH)
    torch.testing.assert_close(sums, sums.flip(1))


def test_memory_that_runs_out_halves_the_tiles_at_a_time(caplog: pytest.LogCaptureFixture) -> None:
    network = Greedy(most=2)
    image = torch.randn(1, 17, 23, 11)
    torch.testing.assert_close(predict_volume(network, image, PATCH, tile_batch=8), 2 * image)
    assert network.sizes[:3] == [8, 4, 2] and set(network.sizes[3:]) <= {1, 2}
    assert caplog.text.count("ran out of memory") == 2
    with pytest.raises(torch.cuda.OutOfMemoryError):
        predict_volume(Greedy(most=0), image, PATCH, tile_batch=2)


def test_other_errors_are_raised_at_once() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        predict_volume(Broken(), torch.randn(1, 8, 10, 6), PATCH)


def test_the_network_is_evaluated_and_left_as_it_was() -> None:
    network = nn.Sequential(nn.Conv3d(1, 1, 1), nn.Dropout(0.9)).train()
    image = torch.randn(1, 9, 11, 7)
    assert torch.equal(predict_volume(network, image, PATCH), predict_volume(network, image, PATCH))
    assert network.training


def test_progress_counts_tiles() -> None:
    class Counting:
        total = seen = 0

        def track(self, items, description, total):  # type: ignore[no-untyped-def]
            self.total = total
            for item in items:
                self.seen += 1
                yield item

        def note(self, text: str) -> None:
            raise AssertionError

    progress = Counting()
    predict_volume(pointwise(), torch.randn(2, 17, 23, 11), PATCH, progress=progress)
    assert progress.seen == progress.total == len(tile_starts((17, 23, 11), PATCH, 0.5))


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="step must be above 0 and at most 1, not 0"):
        predict_volume(pointwise(), torch.randn(2, 17, 23, 11), PATCH, step=0)
