"""The operators of fused kernels, and the choice between these and PyTorch's own operators; the kernels are tested in `tests/gpu`."""

import logging

import pytest
import torch
from torch import Tensor

from configs.errors import InputError
from se_unet.layers.fused import choice, tiles
from se_unet.layers.fused.class_sums import ENTROPY, INTERSECTION, PARTS, PREDICTED, PRESENT, _class_sums, class_sums
from se_unet.layers.fused.mixing import _product
from se_unet.layers.fused.norm import _norm
from se_unet.layers.fused.separable import _separable
from se_unet.layers.grids import Band, apply_to_rows, band_matrix, band_of
from se_unet.layers.pointwise import ScaleMixing
from se_unet.layers.sampling import InterpolateUp


def blur(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Tensor, list[int]]:
    """Arguments of the operator: rows, a blur along Z, a low-pass along Y, an interpolation along X, and their bands."""
    torch.manual_seed(0)
    taps = torch.randn(1, 5)
    matrices = [band_matrix(taps, 3, margin=1), band_matrix(taps, 4, stride=2), InterpolateUp((2, 2, 2))._matrix(2)]
    bands = [band_of(2, margin=1), band_of(2, stride=2), Band(1, 2, 0, 1)]
    rows = torch.randn(2, 1, 3, 4, 2, 2, dtype=dtype, requires_grad=True)
    z, y, x = (matrix.to(dtype) for matrix in matrices)
    return rows, z, y, x, [number for band in bands for number in band]


def classes(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, int]:
    """Arguments of the operator: rows of three classes, and labels of which one is ignored."""
    torch.manual_seed(0)
    labels = torch.arange(2 * 12).reshape(2, 2, 3, 2) % 4
    return torch.randn(2, 12, 3, dtype=dtype, requires_grad=True), labels.short(), 3


def mixing(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Arguments of the operator: rows of three scales, and a matrix."""
    torch.manual_seed(0)
    return torch.randn(2, 3, 5, 4, dtype=dtype, requires_grad=True), torch.randn(3, 3, 4, dtype=dtype, requires_grad=True)


def test_pytorch_finds_no_fault_in_the_operators() -> None:
    """Schema, shapes without values, gradients, and what compilers make of them."""
    torch.library.opcheck(_separable, blur())
    norm = (torch.randn(2, 9, 3, requires_grad=True), torch.randn(3, requires_grad=True), torch.randn(3, requires_grad=True))
    torch.library.opcheck(_norm, (*norm, 1e-5, 0.01))
    torch.library.opcheck(_class_sums, classes())
    torch.library.opcheck(_product, mixing())


def test_gradients() -> None:
    rows, *others = blur(torch.float64)
    assert torch.autograd.gradcheck(lambda rows: _separable(rows, *others), rows)
    rows, *others = classes(torch.float64)
    assert torch.autograd.gradcheck(lambda rows: _class_sums(rows, *others).sum(0), rows)
    assert torch.autograd.gradcheck(_product, mixing(torch.float64))


def test_an_operator_compiles_as_part_of_one_graph() -> None:
    rows, *others = blur()
    compiled = torch.compile(lambda rows: _separable(rows.sin(), *others).cos(), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(rows), _separable(rows.sin(), *others).cos())


@pytest.mark.parametrize("border", ["replicate", "zero", "reflect"])
@pytest.mark.parametrize(("radius", "stride", "margin"), [(4, 1, 1), (6, 2, 0), (0, 1, 1), (7, 1, 1)])
def test_a_band_holds_all_values_of_its_matrix(border: str, radius: int, stride: int, margin: int) -> None:
    for n in (1, 2, 3, 9, 20):
        matrix = band_matrix(torch.ones(1, 2 * radius + 1), n, border, stride, margin)[0]  # type: ignore[arg-type]
        band = band_of(radius, border, stride, margin)  # type: ignore[arg-type]
        distance = band.out_step * torch.arange(len(matrix))[:, None] - band.in_step * torch.arange(n) - band.offset
        assert not matrix[distance.abs() > band.reach].any()
        inner = torch.arange(len(matrix))[:, None] * band.out_step - band.offset == torch.arange(n)
        assert matrix[inner].all() or border == "zero"


def test_wide_kernels_are_left_to_products() -> None:
    assert tiles.fits([band_of(12, margin=1)] * 3) is False and tiles.fits([band_of(6, margin=1)] * 3)
    assert tiles.tile_outputs(band_of(8, margin=1)) == 16 and tiles.tile_outputs(band_of(6, stride=2)) == 10


class Timed:
    """Functions, of which the one that is `fast` takes less time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fast: str):
        monkeypatch.delenv("SE_UNET_KERNELS", raising=False)
        monkeypatch.setattr(choice, "_known", {})
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)  # PyTorch without CUDA cannot tell
        choice._warn_once.cache_clear()
        monkeypatch.setattr(choice, "_milliseconds", lambda function, example: 1.0 if function.__name__ == fast else 2.0)

    @staticmethod
    def plain(x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def fused(x: Tensor) -> Tensor:
        return x + x

    @staticmethod
    def wrong(x: Tensor) -> Tensor:
        return x.sign() + x

    @staticmethod
    def broken(x: Tensor) -> Tensor:
        raise ModuleNotFoundError("No module named 'triton'")


def test_the_faster_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for fast in ("fused", "plain"):
        timed = Timed(monkeypatch, fast)
        assert choice.prefers_fused("key", timed.fused, timed.plain, torch.ones(2, 3)) is (fast == "fused")


@pytest.mark.parametrize(("name", "reason"), [("wrong", "its results differ"), ("broken", "No module named 'triton'")])
def test_a_kernel_that_fails_is_left_out_with_one_warning(
    name: str, reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    timed = Timed(monkeypatch, name)
    with caplog.at_level(logging.WARNING):
        assert not any(choice.prefers_fused(key, getattr(timed, name), timed.plain, torch.ones(2, 3)) for key in "aab")
    assert len(caplog.messages) == 1 and reason in caplog.messages[0]


def test_too_little_memory_for_a_trial_is_no_failure(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def full(x: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    assert not choice.prefers_fused("key", full, Timed(monkeypatch, "full").plain, torch.ones(1)) and not caplog.messages


def test_the_variable_decides_without_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = Timed(monkeypatch, "plain")
    monkeypatch.setenv("SE_UNET_KERNELS", "fused")
    assert choice.are_allowed() and choice.prefers_fused("key", timed.broken, timed.plain, torch.ones(1))
    monkeypatch.setenv("SE_UNET_KERNELS", "plain")
    assert not choice.are_allowed()


@pytest.mark.parametrize("value", ["fusd", "Plain", "0", "fused "])
def test_a_mistyped_variable_is_an_error(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any trial, which would take a failure for one of the kernel."""
    timed = Timed(monkeypatch, "plain")
    monkeypatch.setenv("SE_UNET_KERNELS", value)
    for ask in (choice.are_allowed, lambda: choice.prefers_fused("key", timed.fused, timed.plain, torch.ones(1))):
        with pytest.raises(InputError, match=rf"SE_UNET_KERNELS: unknown choice `{value}`. Choose from auto, plain, fused"):
            ask()


@pytest.mark.parametrize("value", ["auto", "", None])
def test_the_variable_is_auto_where_nobody_set_it(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SE_UNET_KERNELS", raising=False)
    if value is not None:
        monkeypatch.setenv("SE_UNET_KERNELS", value)
    assert choice.asked_kernels() == "auto" and choice.are_allowed()


def test_deterministic_trainings_do_not_choose_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = Timed(monkeypatch, "fused")
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    assert not choice.prefers_fused("key", timed.fused, timed.plain, torch.ones(1))


def test_the_operator_is_the_product() -> None:
    rows, z, y, x, bands = blur()
    assert torch.equal(_separable(rows, z, y, x, bands), apply_to_rows(rows, (z, y, x)))


@pytest.mark.parametrize(("scales", "reach"), [(1, 1), (2, 1), (3, 1), (4, 2), (3, 3)])
def test_mixing_by_one_product_is_mixing_scale_by_scale(scales: int, reach: int) -> None:
    """In values and gradients; with other weights it is not."""
    torch.manual_seed(0)
    layer, x = ScaleMixing(4, reach), torch.randn(2, 4, scales, 2, 3, 5, requires_grad=True)
    torch.nn.init.normal_(layer.weight)
    results = []
    for mix in (layer._by_product, layer._scale_by_scale):
        y = mix(x, layer.weight)
        results.append([y.detach(), *torch.autograd.grad(y.square().sum(), [x, layer.weight], materialize_grads=True)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert layer._by_product(x, layer.weight).movedim(1, -1).is_contiguous()
    differ = not torch.allclose(layer._by_product(x, -layer.weight), layer(x))
    assert differ == (scales > 1)


def test_class_sums_are_those_of_their_formula() -> None:
    """Voxel by voxel; each voxel is in one part."""
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 7, 9, 8), torch.randint(0, 4, (2, 7, 9, 8), dtype=torch.int16)
    sums = class_sums(logits, labels, 3)
    counts, probabilities = labels != 3, logits.double().softmax(1)
    assert sums.shape == (PARTS, 2, 4, 3) and (sums[:, :, PRESENT].sum(2) <= 2).all()  # 504 voxels in 256 parts
    for index in range(3):
        own, p = labels == index, probabilities[:, index]
        expected = {INTERSECTION: p * own, PREDICTED: p * counts, PRESENT: own, ENTROPY: -p.log() * own}
        for term, values in expected.items():
            torch.testing.assert_close(sums[:, :, term, index].sum(0), values.sum((1, 2, 3)).float())


def test_a_trial_draws_no_random_numbers_of_the_training() -> None:
    state = torch.random.get_rng_state()
    noise = choice._noise(torch.zeros(1, 4, 3, 3, 3).contiguous(memory_format=torch.channels_last_3d))
    assert noise.std() > 0.5 and noise.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(torch.random.get_rng_state(), state)
