"""Prediction plane by plane: the same answer whatever is in memory at a time, and nothing of what is behind."""

import logging
from math import prod

import pytest
import torch
from torch import Tensor, nn

from configs.errors import InputError
from inference.device import DeviceMemoryError
from inference.engine.bricks import brick_shape, bricks
from inference.engine.capacity import Capacity, ScoresNotFiniteError, within
from inference.engine.ensemble import Blending, Brick, Member, blend, make_members
from inference.engine.heads import split_network
from inference.engine.scaling import ScaledImage, scale_image
from inference.engine.sliding_window import Sweep
from inference.options import Variants
from se_unet.builder import build_network
from se_unet.separable import apply_separable, spline_matrix
from tests.inference.engine.test_ensemble import asymmetric, network_plan
from tests.inference.engine.whole import WholeImage, predict_ensemble, predict_volume
from tests.inference.models import many_classes, plan

CPU = torch.device("cpu")
PATCH = (8, 10, 6)


def together(parts: list[Brick], shape: tuple[int, int, int], classes: int) -> Tensor:
    """The bricks put into one volume; every voxel must be covered once."""
    mean, covered = torch.zeros(classes, *shape), torch.zeros(shape)
    for brick in parts:
        mean[(slice(None), *brick.place)] = brick.probabilities
        covered[brick.place] += 1
    assert (covered == 1).all()
    return mean


@pytest.mark.parametrize("asked", [1, 3, 7, 40])
def test_planes_of_a_sweep_are_those_of_the_whole_volume(asked: int) -> None:
    network, image = asymmetric(), torch.randn(1, 40, 13, 9)
    whole = predict_volume(network, image, PATCH)
    sweep = Sweep(network, WholeImage(image), PATCH, 0.5, Capacity.of(CPU), reach=asked)
    with torch.no_grad():
        parts = [sweep.planes(first, min(first + asked, 40)).clone() for first in range(0, 40, asked)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-6, rtol=1e-6)


def test_a_sweep_forgets_what_is_behind() -> None:
    sweep = Sweep(asymmetric(), WholeImage(torch.randn(1, 80, 13, 9)), PATCH, 0.5, Capacity.of(CPU), reach=2)
    with torch.no_grad():
        for first in range(0, 80, 2):
            sweep.planes(first, first + 2)
    assert sweep._sums is not None and sweep._sums.shape[1] == PATCH[0] + 2 < 80
    with pytest.raises(ValueError, match="which holds 10 planes from"):
        sweep.planes(0, 2)


def test_a_small_volume_is_padded_along_all_axes() -> None:
    image = torch.randn(1, 5, 4, 3)
    sweep = Sweep(nn.Identity(), WholeImage(image), PATCH, 0.5, Capacity.of(CPU), reach=5)
    torch.testing.assert_close(sweep.planes(0, 5), image)


def test_half_floats_keep_scores_to_their_own_precision() -> None:
    image = 30 * torch.randn(1, 40, 13, 9)
    exact = predict_volume(asymmetric(), image, PATCH)
    sweep = Sweep(asymmetric(), WholeImage(image), PATCH, 0.5, Capacity.of(CPU), reach=40, half_above=0)
    with torch.no_grad():
        half = sweep.planes(0, 40)
    assert half.dtype == torch.float16
    assert ((half - exact).abs() <= 4 * 2**-11 * exact.abs() + 0.01).all()


@pytest.mark.parametrize("average", ["probabilities", "logits"])
@pytest.mark.parametrize("values", [50, 400, 10**9])
def test_the_mean_does_not_depend_on_the_bricks(values: int, average: str) -> None:
    """Against the plain definition: every member whole, resampled, added up."""
    networks, image = [asymmetric(0), asymmetric(1)], torch.randn(1, 22, 13, 9)
    target = (30, 11, 9)
    onwards = [spline_matrix(n, m, 1, torch.float32) if n != m else None for n, m in zip((22, 13, 9), target, strict=True)]
    planned = network_plan(patch_size=PATCH, network=network_plan().network)
    how = Blending(average=average, brick_values=values)  # type: ignore[arg-type]
    factors, weights = (0.7, 1.0, 1.3), (1.0, 2.0, 3.0)
    members = make_members(networks, image, planned, Variants(False, factors, weights), tuple(onwards))  # type: ignore[arg-type]
    mean = together(list(blend(members, target, 3, how, Capacity.of(CPU))), target, 3)
    expected = torch.zeros(3, *target)
    for factor, weight in zip(factors, weights, strict=True):
        shape = tuple(round(n * factor) for n in image.shape[1:])
        for network in networks:
            scores = predict_volume(network, scale_image(image, shape), PATCH)  # type: ignore[arg-type]
            scores = scores.softmax(0) if average == "probabilities" else scores
            back = apply_separable(
                scores, [spline_matrix(n, m, 1, torch.float32) for n, m in zip(shape, (22, 13, 9), strict=True)]
            )
            expected += weight / 12 * apply_separable(back, onwards)
    expected = expected if average == "probabilities" else expected.softmax(0)
    torch.testing.assert_close(mean, expected, atol=2e-6, rtol=1e-5)


def test_averages_of_logits_and_of_probabilities_differ() -> None:
    image, networks = torch.randn(1, 9, 9, 9), [asymmetric(0), asymmetric(1)]
    one, other = (
        predict_ensemble(networks, image, network_plan(), how=Blending(average=kind)) for kind in ("logits", "probabilities")
    )  # type: ignore[arg-type]
    assert (one - other).abs().max() > 1e-3
    alone = [
        predict_ensemble(networks[:1], image, network_plan(), how=Blending(average=kind)) for kind in ("logits", "probabilities")
    ]  # type: ignore[arg-type]
    torch.testing.assert_close(*alone)


def test_an_image_is_scaled_plane_by_plane() -> None:
    image = torch.randn(2, 30, 8, 9)
    for shape in ((20, 8, 12), (41, 5, 9), (30, 8, 9)):
        whole, scaled = scale_image(image, shape), ScaledImage(image, shape)
        parts = [scaled.planes(first, min(first + 7, shape[0])) for first in range(0, shape[0], 7)]
        torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=1e-5)


def test_many_classes_are_summed_as_features() -> None:
    """With more classes than features the features are summed over tiles, and the scores are the same."""
    description = many_classes(20)
    network_of = plan(description).network("3d_fullres", "baseline")
    torch.manual_seed(0)
    network, image = build_network(network_of.network).eval(), torch.randn(1, 20, 24, 17)
    scorer = split_network(network)
    assert scorer.head is not None
    with torch.no_grad():
        assert scorer.body(torch.zeros(1, 1, 16, 16, 16)).shape[1] == 4 < 20
    direct = predict_volume(network, image, (16, 16, 16)).softmax(0)
    torch.testing.assert_close(
        predict_ensemble([network], image, network_of, Variants(mirror=False)), direct, atol=1e-6, rtol=1e-4
    )
    few = build_network(plan().network("3d_fullres", "baseline").network)
    assert split_network(few).head is None and split_network(asymmetric()).head is None


def test_bricks_cover_a_grid_within_their_limit() -> None:
    for classes, moved in ((2, (False, False, False)), (100, (True, True, True)), (5, (True, False, True))):
        shape = (50, 120, 90)
        size = brick_shape(shape, classes, moved, values=2**14)
        assert prod(size) * classes <= 2**14 or all(part <= 8 for part, is_moved in zip(size, moved, strict=True) if is_moved)
        covered = torch.zeros(shape, dtype=torch.int)
        order = []
        for place in bricks(shape, size):
            covered[tuple(slice(*part) for part in place)] += 1
            order.append(place[0])
        assert (covered == 1).all() and order == sorted(order)


class Greedy(nn.Module):
    """Runs out of memory above a number of tiles, and `refusals` times with one."""

    def __init__(self, most: int, refusals: int = 0):
        super().__init__()
        self.most, self.refusals = most, refusals

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.most:
            raise torch.OutOfMemoryError("full")
        if self.refusals:
            self.refusals -= 1
            raise torch.OutOfMemoryError("full")
        return torch.cat([x, -x, 2 * x], 1)


def test_memory_that_runs_out_is_said_once_for_all_volumes(caplog: pytest.LogCaptureFixture) -> None:
    capacity = Capacity.of(CPU, 8)
    image = torch.randn(1, 40, 13, 9)
    for _ in range(3):
        members = make_members([Greedy(2)], image, network_plan(patch_size=PATCH), Variants(mirror=False))
        parts = list(blend(members, (40, 13, 9), 3, Blending(), capacity))
        torch.testing.assert_close(
            together(parts, (40, 13, 9), 3), torch.cat([image, -image, 2 * image]).softmax(0), atol=1e-5, rtol=1e-4
        )
    assert capacity.tile_batch == 2
    assert caplog.text.count("ran out of memory") == 2


def test_after_the_tiles_the_volumes_move_and_then_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    """What an attempt learned is known to the next; the last step is whole volumes in host memory."""
    shared, seen = Capacity(torch.device("meta"), 4), []

    def attempt(own: Capacity) -> str:
        seen.append((own.tile_batch, own.volumes_device.type))
        while own.halve_tiles():
            pass
        if not own.volumes_on_host or len(seen) == 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB")
        return "done"

    with caplog.at_level(logging.WARNING):
        assert [within(shared, attempt, "case `a`") for _ in range(2)] == ["done", "done"]
    assert seen == [(4, "meta"), (1, "cpu"), (1, "cpu")]
    assert caplog.text.count("tiles at a time") == 2 and caplog.text.count("in host memory") == 1
    with pytest.raises(DeviceMemoryError, match=r"case `a`: meta has too little memory.*Tried to allocate 3 GiB.*--device cpu"):
        within(shared, attempt, "case `a`")


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: out of memory",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes",
    ],
)
def test_libraries_and_the_host_run_out_of_memory_with_errors_of_their_own(message: str) -> None:
    """Of other types than PyTorch's: they get the same remedies."""
    calls = []

    def attempt(own: Capacity) -> bool:
        calls.append(own)
        if len(calls) == 1:
            raise RuntimeError(message)
        return own.volumes_on_host

    assert within(Capacity(torch.device("meta"), 1), attempt, "x")
    with pytest.raises(DeviceMemoryError, match="this computer has too little memory"):
        calls.clear()
        within(Capacity.of(CPU), attempt, "x")


def test_an_error_without_words_is_named() -> None:
    def attempt(own: Capacity) -> None:
        raise MemoryError

    with pytest.raises(DeviceMemoryError, match=r"this computer has too little memory for this image \(MemoryError\)"):
        within(Capacity.of(CPU), attempt, "x")


def test_scores_that_are_not_finite_are_never_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    """They were background before. Half precision gives way to float32; without it, the case fails."""
    image = torch.randn(1, 20, 13, 9)

    class Overflowing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, x / torch.zeros_like(x).where(x > 1, torch.ones_like(x)) * 0], 1)

    members = make_members([Overflowing()], image, network_plan(patch_size=PATCH), Variants(mirror=False))
    with pytest.raises(ScoresNotFiniteError):
        list(blend(members, (20, 13, 9), 2, Blending(), Capacity.of(CPU)))

    def attempt(own: Capacity) -> torch.dtype | None:
        if own.half is not None or own.tile_batch > 1:
            raise ScoresNotFiniteError
        return own.half

    assert within(Capacity(CPU, 1, half=torch.float16), attempt, "case `a`") is None
    assert "case `a`: scores overflow in float16; continuing in float32" in caplog.text
    with pytest.raises(InputError, match=r"case `a`.*not finite"):
        within(Capacity(CPU, 2), attempt, "case `a`")


def test_a_tile_that_failed_half_way_is_not_added_twice() -> None:
    """Memory may run out while sums are taken: tiles that are in stay in, the others are computed again."""
    image = torch.randn(1, 40, 13, 9)
    sweep = Sweep(nn.Identity(), WholeImage(image), PATCH, 0.5, Capacity.of(CPU, 4), reach=40)
    add, calls = sweep._add, [0]

    def failing(*arguments: object) -> None:
        calls[0] += 1
        if calls[0] in (3, 7, 8):
            raise torch.OutOfMemoryError("full")
        add(*arguments)  # type: ignore[arg-type]

    sweep._add = failing  # type: ignore[method-assign]
    sweep._capacity.tile_batch = 16
    torch.testing.assert_close(sweep.planes(0, 40), image, atol=1e-5, rtol=1e-5)


def test_other_errors_are_raised_at_once() -> None:
    class Broken(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            Broken.calls += 1
            raise RuntimeError("a bug that mentions out of memory")

    members = make_members([Broken()], torch.randn(1, 9, 9, 9), network_plan(), Variants())
    with pytest.raises(RuntimeError, match="a bug"):
        list(blend(members, (9, 9, 9), 3, Blending(), Capacity.of(CPU, 8)))
    assert Broken.calls == 1


def test_members_need_weights() -> None:
    member = Member(asymmetric(), WholeImage(torch.zeros(1, 8, 8, 8)), (8, 8, 8), (), (None, None, None), 0.0)
    for members in ([], [member]):
        with pytest.raises(ValueError, match="at least one positive"):
            list(blend(members, (8, 8, 8), 3, Blending(), Capacity.of(CPU)))
