"""Laws of the scale-equivariant convolutions, each with a control that must fail."""

import pytest
import torch
from torch import nn

from se_unet import GroupConvolution, LiftingConvolution
from se_unet.equivariance import PlaneWaves, assert_equivariant, equivariance_error

NARROW = [(sigma,) * 3 for sigma in (0.729, 0.81, 0.9, 1.0)]  # step 1 / 0.9
WIDE = [(0.75 * 2 ** (k / 3),) * 3 for k in range(4)]  # step 2^(1/3)
LAYER = {"size": 40, "interior": 11, "shift": 1}


def lifting(sigmas: list[tuple[float, ...]], seed: int = 0, **settings: object) -> LiftingConvolution:
    torch.manual_seed(seed)
    return LiftingConvolution(1, 16, sigmas, **settings)  # type: ignore[arg-type]


def group(sigmas: list[tuple[float, ...]], **settings: object) -> GroupConvolution:
    torch.manual_seed(0)
    return GroupConvolution(2, 4, sigmas, **settings)  # type: ignore[arg-type]


def test_layers_are_equivariant_at_step_0_9() -> None:
    assert_equivariant(lifting(NARROW), 1 / 0.9, 5e-4, **LAYER)
    assert_equivariant(group(NARROW), 1 / 0.9, 5e-4, channels=2, scales=4, **LAYER)


def test_five_fitted_taps_are_equivariant_at_step_0_9() -> None:
    errors = [equivariance_error(lifting(NARROW, seed, taps="fitted", size=5), 1 / 0.9, **LAYER) for seed in range(4)]
    assert sum(errors) / len(errors) < 5e-4


def test_sampled_taps_are_less_equivariant() -> None:
    assert equivariance_error(lifting(NARROW, taps="sampled", size=5), 1 / 0.9, **LAYER) > 2e-3
    assert equivariance_error(lifting(WIDE, taps="sampled", size=5), 2 ** (1 / 3), **LAYER) > 3e-2


@pytest.mark.parametrize("taps", ["factors", "fitted"])
def test_layers_are_equivariant_at_third_octaves(taps: str) -> None:
    size = 7 if taps == "fitted" else None
    assert_equivariant(lifting(WIDE, taps=taps, size=size), 2 ** (1 / 3), 7e-3, **LAYER)
    assert_equivariant(group(WIDE, taps=taps, size=size), 2 ** (1 / 3), 7e-3, channels=2, scales=4, **LAYER)


def test_the_factorised_engine_is_equivariant_up_to_two_voxels() -> None:
    widths = [(0.8 * 2 ** (k / 3),) * 3 for k in range(5)]
    assert_equivariant(lifting(widths, engine="factorised"), 2 ** (1 / 3), 1e-2, **LAYER | {"size": 64})


def test_an_ordinary_convolution_is_not_equivariant() -> None:
    torch.manual_seed(0)
    plain = equivariance_error(nn.Conv3d(1, 4, 3, padding=1, bias=False), 2 ** (1 / 3), size=40, interior=11)
    assert plain > 2e-2 > 20 * equivariance_error(lifting(WIDE), 2 ** (1 / 3), **LAYER)


def test_the_wrong_scale_shift_is_noticed() -> None:
    assert equivariance_error(lifting(WIDE), 2 ** (1 / 3), **LAYER | {"shift": 0}) > 4e-2


def test_a_constant_gives_the_same_response_at_all_scales() -> None:
    layer = lifting(WIDE).requires_grad_(False)
    response = layer(torch.ones(1, 1, 12, 12, 12))
    torch.testing.assert_close(response, response[:, :, :1].expand_as(response), rtol=1e-4, atol=1e-4)
    layer.functions.stencils *= torch.tensor([s[0] for s in WIDE]).reshape(-1, 1, 1, 1, 1) ** 3  # without the factor s^-3
    response = layer(torch.ones(1, 1, 12, 12, 12))
    assert float((response[:, :, 0] - response[:, :, -1]).abs().max()) > 0.1


def test_grids_of_other_spacing_answer_alike() -> None:
    waves = PlaneWaves(1, 3.0, torch.Generator().manual_seed(0))
    fine = waves.sample(31, 15, 1.0)[None]
    thick = waves.sample(31, 15, 1.0, stretch=(3, 1, 1))[None]  # 3 x 1 x 1 mm, the same point in the middle
    width = 2.0
    isotropic, physical, voxels = [(width,) * 3], [(width / 3, width, width)], [(width,) * 3]
    middle = (..., 15, slice(8, 23), slice(8, 23))
    with torch.no_grad():
        reference = lifting(isotropic)(fine)[middle]
        errors = [
            float((lifting(widths)(thick)[middle] - reference).square().mean() / reference.var()) for widths in (physical, voxels)
        ]
    assert errors[0] < 5e-2 < 0.2 < errors[1]


@pytest.mark.parametrize("border", ["replicate", "zero", "reflect", "renormalise"])
@pytest.mark.parametrize("scale_size", [1, 2])
def test_engines_agree(border: str, scale_size: int) -> None:
    fast = group(WIDE, border=border, scale_size=scale_size, engine="factorised")
    plain = group(WIDE, border=border, scale_size=scale_size, engine="dense")
    plain.load_state_dict(fast.state_dict())
    x = torch.randn(2, 2, 4, 11, 12, 13)
    expected = plain(x).detach()

    def difference(layer: nn.Module) -> float:
        return float((layer(x) - expected).detach().abs().max() / expected.abs().max())

    assert difference(fast) < 1e-5
    fast.border = "reflect" if border == "zero" else "zero"
    assert difference(fast) > 1e-2


def test_borders_matter_and_replicating_keeps_constants() -> None:
    x = torch.ones(1, 1, 9, 9, 9)
    flat = lifting(WIDE).requires_grad_(False)(x)
    torch.testing.assert_close(flat, flat.mean((3, 4, 5), keepdim=True).expand_as(flat), rtol=1e-4, atol=1e-4)
    faded = lifting(WIDE, border="zero").requires_grad_(False)(x)
    assert float(faded.std((3, 4, 5)).max()) > 0.05


def test_merged_kernels_follow_the_weights() -> None:
    layer = group(WIDE).eval()
    x = torch.randn(1, 2, 4, 8, 8, 8)
    with torch.no_grad():
        first = layer(x)
        kept = layer.kernels("factorised")
        assert layer.kernels("factorised") is kept
        layer.weight.mul_(2)
        torch.testing.assert_close(layer(x), 2 * first)
        assert not torch.equal(layer.kernels("factorised"), kept)
        layer.train()
        torch.testing.assert_close(layer(x), 2 * first)
        layer.eval().load_state_dict(group(WIDE).state_dict())
        torch.testing.assert_close(layer(x), first)


def test_in_plane_kernels_leave_the_slices_apart() -> None:
    layer = lifting(WIDE).requires_grad_(False)
    flat = LiftingConvolution(1, 4, WIDE, kernel=(1, 3, 3)).requires_grad_(False)
    x = torch.zeros(1, 1, 7, 15, 15)
    x[:, :, 3] = torch.randn(15, 15)
    assert float(flat(x)[:, :, :, [0, 1, 2, 4, 5, 6]].abs().max()) == 0
    assert float(layer(x)[:, :, :, 2].abs().max()) > 0


def test_unit_input_gives_unit_response() -> None:
    torch.manual_seed(0)
    layer = GroupConvolution(32, 64, [(1.0,) * 3] * 4).requires_grad_(False)
    waves = PlaneWaves(32, 1.0, torch.Generator().manual_seed(0))
    x = waves.sample(32, 16, 1.0)[None, :, None].expand(-1, -1, 4, -1, -1, -1)
    assert float(layer(x)[:, :, 2, 8:-8, 8:-8, 8:-8].var()) == pytest.approx(2, rel=0.3)  # doubled for the rectifier


def test_bfloat16_is_finite_and_every_parameter_gets_a_gradient() -> None:
    layer = group(WIDE, scale_size=2)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(torch.randn(1, 2, 4, 8, 8, 8))
    y.float().square().mean().backward()
    assert all(
        p.grad is not None and bool(torch.isfinite(p.grad).all()) and float(p.grad.abs().max()) > 0 for p in layer.parameters()
    )
