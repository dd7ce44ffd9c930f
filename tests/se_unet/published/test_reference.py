"""Layers and networks of Wimmer et al. (2023) against the numbers of the published implementation (`reference/`)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from configs.errors import InputError
from se_unet.layers.head import project
from se_unet.layers.pointwise import PointwiseConvolution
from se_unet.published.norm import ScaleBatchNorm, ScaleInstanceNorm
from se_unet.published.reference_layers import ReferenceGroupConvolution, ReferenceLifting, ReferencePointwise
from se_unet.published.sampled_basis import SampledBasis, normalise_by_first_scale
from se_unet.published.wimmer2023 import Wimmer2023, Wimmer2023Settings, load_reference_checkpoint, load_reference_state
from se_unet.published.wimmer2023_baseline import Wimmer2023Baseline, Wimmer2023BaselineSettings

FOLDER = Path(__file__).parent / "reference"
CASES: list[dict[str, Any]] = json.loads((FOLDER / "reference_layers.json").read_text(encoding="utf-8"))
TOLERANCE = 1e-5
MODES = {"multi": "multiscale", "single": "onescale"}


def of_kind(*kinds: str) -> Any:
    return pytest.mark.parametrize("case", [pytest.param(c, id=c["case"]) for c in CASES if c["kind"] in kinds])


def case_named(name: str) -> dict[str, Any]:
    return next(case for case in CASES if case["case"] == name)


@pytest.fixture(scope="module")
def numbers() -> dict[str, Tensor]:
    with np.load(FOLDER / "reference_layers.npz") as archive:
        return {name: torch.from_numpy(archive[name]) for name in archive.files}


def error(ours: Tensor, reference: Tensor) -> float:
    """Largest difference divided by the largest reference value."""
    assert ours.shape == reference.shape
    return float((ours.detach().double() - reference.double()).abs().max() / reference.double().abs().max())


def basis_of(case: dict[str, Any], mode: str | None = None) -> SampledBasis:
    return SampledBasis(
        mode=mode or MODES[case["basis_type"]],
        size=case.get("size", case.get("kernel_size")),
        scales=tuple(case["scales"]),
        effective_size=case["effective_size"],
        kernel_padding=case.get("kernel_padding", False),
        max_order=case.get("max_order", 4),
        mult=case.get("mult", 1.2),
    )


def layer_of(case: dict[str, Any], numbers: dict[str, Tensor], basis: SampledBasis | None = None) -> nn.Module:
    """The convolution of a case, with the reference's weights."""
    name = case["case"]
    kind: Any = ReferenceLifting if case["kind"] == "lifting" else ReferenceGroupConvolution
    options = {"scale_size": case["scale_size"]} if case["kind"] == "group" else {}
    layer = kind(
        case["in_channels"],
        case["out_channels"],
        basis or basis_of(case),
        stride=case["stride"],
        padding=case["padding"],
        bias=f"{name}/bias" in numbers,
        transposed=case["transposed"],
        **options,
    )
    layer.load_state_dict({key: numbers[f"{name}/{key}"] for key in ("weight", "bias") if f"{name}/{key}" in numbers})
    return layer


def network_of(case: dict[str, Any], **changes: Any) -> nn.Sequential:
    settings = {
        "input_channels": case["in_channels"],
        "output_channels": case["out_channels"],
        "channels": tuple(case["channels"]),
        "strides": tuple(case["strides"]),
        "basis": basis_of(case),
        "scale_size": case["scale_size"],
        "residual_units": case["num_res_units"],
        "activation": {"silu": "silu", "leaky": "leaky_relu"}[case["act"]],
        "norm": case["norm"],
        "dropout": 0.0,
        "projection": {"avg": "mean", "max": "max"}[case["reduction"]],
        "bias": case["bias"],
    }
    return Wimmer2023(Wimmer2023Settings(**{**settings, **changes}))


def state_of(case: dict[str, Any], numbers: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: numbers[f"{case['case']}/param/{name}"] for name in case["parameters"]}


def test_every_case_is_tested() -> None:
    kinds = {"basis", "lifting", "group", "pointwise", "batchnorm", "instancenorm", "maxpool", "projection", "unet"}
    assert {case["kind"] for case in CASES} == kinds
    assert len(CASES) == 27


@of_kind("basis")
def test_basis(case: dict[str, Any], numbers: dict[str, Tensor]) -> None:
    basis = basis_of(case, mode=case["mode"])
    assert basis.sample().dtype == torch.float64
    assert error(basis.sample(), numbers[f"{case['case']}/raw"]) < TOLERANCE
    assert error(normalise_by_first_scale(basis.sample()), numbers[f"{case['case']}/normalized"]) < TOLERANCE


@of_kind("basis")
def test_basis_with_a_norm_per_scale_differs(case: dict[str, Any], numbers: dict[str, Tensor]) -> None:
    raw = basis_of(case, mode=case["mode"]).sample()
    per_scale = torch.cat([normalise_by_first_scale(raw[:, k : k + 1]) for k in range(raw.shape[1])], dim=1)
    assert error(per_scale, numbers[f"{case['case']}/normalized"]) > 0.01
    assert error(raw, numbers[f"{case['case']}/normalized"]) > 0.01


@of_kind("lifting", "group")
def test_convolution(case: dict[str, Any], numbers: dict[str, Tensor]) -> None:
    layer = layer_of(case, numbers)
    assert error(layer(numbers[f"{case['case']}/x"]), numbers[f"{case['case']}/y"]) < TOLERANCE


@of_kind("lifting", "group")
def test_convolution_with_scales_in_another_order_differs(case: dict[str, Any], numbers: dict[str, Tensor]) -> None:
    basis = basis_of({**case, "scales": case["scales"][::-1]})
    swapped = layer_of(case, numbers, basis)
    assert error(swapped(numbers[f"{case['case']}/x"]), numbers[f"{case['case']}/y"]) > 0.01


@pytest.mark.parametrize("name", ["group1", "group2", "group5"])
def test_scale_interaction_counts(name: str, numbers: dict[str, Tensor]) -> None:
    layer = layer_of(case_named(name), numbers)
    with torch.no_grad():
        layer.weight[:, :, 1:] = 0
    assert error(layer(numbers[f"{name}/x"]), numbers[f"{name}/y"]) > 0.1


def test_pointwise(numbers: dict[str, Tensor]) -> None:
    x, weight, y = (numbers[f"pointwise0/{part}"] for part in ("x", "weight", "y"))
    published = ReferencePointwise(2, 3, bias=False)
    published.load_state_dict({"weight": weight})
    own = PointwiseConvolution(2, 3, bias=False)
    own.load_state_dict({"weight": weight[:, :, 0, 0, 0]})
    assert error(published(x), y) < TOLERANCE
    assert error(own(x), y) < TOLERANCE


@pytest.mark.parametrize("kind", [ReferencePointwise, PointwiseConvolution])
def test_the_bias_of_the_pointwise_layer_counts(kind: Any) -> None:
    layer = kind(2, 3)
    x = torch.randn(1, 2, 3, 4, 4, 4)
    before = layer(x)
    with torch.no_grad():
        layer.bias += 100
    after = layer(x)
    torch.testing.assert_close(after, before + 100)
    after.sum().backward()
    assert layer.bias.grad.abs().min() > 0


@of_kind("batchnorm", "instancenorm")
def test_norm(case: dict[str, Any], numbers: dict[str, Tensor]) -> None:
    name = case["case"]
    kind = ScaleBatchNorm if case["kind"] == "batchnorm" else ScaleInstanceNorm
    norm = kind(case["num_features"], eps=case["eps"], momentum=case["momentum"], track_running_stats=True)
    with torch.no_grad():
        norm.weight.copy_(numbers[f"{name}/weight"])
        norm.bias.copy_(numbers[f"{name}/bias"])
    assert error(norm(numbers[f"{name}/x"]), numbers[f"{name}/y_train"]) < TOLERANCE
    assert error(norm.running_mean, numbers[f"{name}/running_mean"]) < TOLERANCE
    assert error(norm.running_var, numbers[f"{name}/running_var"]) < TOLERANCE
    trained = norm.running_mean.clone()
    assert error(norm.eval()(numbers[f"{name}/x"]), numbers[f"{name}/y_eval"]) < TOLERANCE
    assert torch.equal(norm.running_mean, trained)


@of_kind("batchnorm", "instancenorm")
def test_norm_of_each_scale_by_itself_differs(case: dict[str, Any], numbers: dict[str, Tensor]) -> None:
    x = numbers[f"{case['case']}/x"]
    axes = (0, 3, 4, 5) if case["kind"] == "batchnorm" else (3, 4, 5)
    variance, mean = torch.var_mean(x, dim=axes, correction=0, keepdim=True)
    per_scale = (x - mean) / (variance + 1e-5).sqrt()
    weight, bias = (numbers[f"{case['case']}/{part}"].reshape(1, -1, 1, 1, 1, 1) for part in ("weight", "bias"))
    assert error(per_scale * weight + bias, numbers[f"{case['case']}/y_train"]) > 0.01


@of_kind("projection")
def test_projection(case: dict[str, Any], numbers: dict[str, Tensor]) -> None:
    kinds: dict[str, Any] = {"avg": "mean", "max": "max"}
    x, y = numbers[f"{case['case']}/x"], numbers[f"{case['case']}/y"]
    assert error(project(x, kinds.pop(case["projection"])), y) < TOLERANCE
    assert error(project(x, next(iter(kinds.values()))), y) > 0.01


@of_kind("unet")
def test_network(case: dict[str, Any], numbers: dict[str, Tensor]) -> None:
    network = network_of(case)
    assert [name for name, _ in network.named_parameters()] == case["parameters"]
    load_reference_state(network, state_of(case, numbers))
    assert error(network(numbers[f"{case['case']}/x"]), numbers[f"{case['case']}/y"]) < TOLERANCE


@of_kind("unet")
def test_network_with_other_settings_differs(case: dict[str, Any], numbers: dict[str, Tensor]) -> None:
    other_activation = "leaky_relu" if case["act"] == "silu" else "silu"
    other_projection = "max" if case["reduction"] == "avg" else "mean"
    for changes in (
        {"activation": other_activation},
        {"projection": other_projection},
        {"basis": basis_of({**case, "scales": case["scales"][::-1]})},
    ):
        network = network_of(case, **changes)
        load_reference_state(network, state_of(case, numbers))
        assert error(network(numbers[f"{case['case']}/x"]), numbers[f"{case['case']}/y"]) > 1e-3


def test_the_published_pointwise_bias_would_change_the_network(numbers: dict[str, Tensor]) -> None:
    case = case_named("unet2")
    network = network_of(case)
    network.load_state_dict(state_of(case, numbers))
    assert error(network(numbers["unet2/x"]), numbers["unet2/y"]) > 1e-3


def test_loader_takes_a_checkpoint_with_prefix_and_bases(tmp_path: Path, numbers: dict[str, Tensor]) -> None:
    case = case_named("unet2")
    state = {f"model.{name}": value for name, value in state_of(case, numbers).items()}
    state["model.0.conv.unit0.conv_z_h.basis"] = torch.zeros(27, 3, 5, 5, 5)
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "weights.ckpt")
    network = network_of(case)
    load_reference_checkpoint(network, tmp_path / "weights.ckpt")
    assert error(network(numbers["unet2/x"]), numbers["unet2/y"]) < TOLERANCE


def test_loader_names_every_fault(numbers: dict[str, Tensor]) -> None:
    case = case_named("unet2")
    state = state_of(case, numbers)
    state["0.conv.unit0.conv_z_h.weight"] = torch.zeros(2, 2, 8)
    state["extra"] = state.pop("2.0.0.batch_norm.weight")
    network = network_of(case)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(InputError) as caught:
        load_reference_state(network, state)
    assert {fault.where for fault in caught.value.faults} == {
        "tensor `0.conv.unit0.conv_z_h.weight`",
        "tensor `extra`",
        "tensor `2.0.0.batch_norm.weight`",
    }
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_loader_refuses_what_is_no_weights_file(tmp_path: Path) -> None:
    (tmp_path / "weights.ckpt").write_text("not weights")
    torch.save([torch.zeros(1)], tmp_path / "list.ckpt")
    network = network_of(case_named("unet2"))
    for name in ("weights.ckpt", "list.ckpt", "absent.ckpt"):
        with pytest.raises(InputError, match=name):
            load_reference_checkpoint(network, tmp_path / name)


def test_the_published_run_has_its_number_of_parameters() -> None:
    network = Wimmer2023(Wimmer2023Settings(input_channels=4, output_channels=1))
    assert sum(p.numel() for p in network.parameters()) == 75_555


def test_an_input_size_that_does_not_divide_is_refused_with_the_next_that_does() -> None:
    network = Wimmer2023(Wimmer2023Settings(input_channels=1, output_channels=1, channels=(2, 2, 2, 2)))
    assert [size for size in range(64) if network.fits(size)] == [29, 37, 45, 53, 61]
    with pytest.raises(ValueError, match=r"size 30 does not fit .* is 37"):
        network(torch.zeros(1, 1, 29, 29, 30))
    assert network(torch.zeros(1, 1, 29, 29, 29)).shape == (1, 1, 29, 29, 29)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 4}, "must be odd"),
        ({"scales": ()}, "scales must be positive"),
        ({"scales": (1.0, -1.0)}, "scales must be positive"),
        ({"size": 3, "scales": (1.0, 0.5), "kernel_padding": True}, "fewer than 3"),
    ],
)
def test_a_basis_that_cannot_be_sampled_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SampledBasis(**changes)


@of_kind("unet")
def test_every_parameter_of_the_network_gets_a_gradient(case: dict[str, Any], numbers: dict[str, Tensor]) -> None:
    network = network_of(case)
    network(numbers[f"{case['case']}/x"]).square().sum().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(("norm", "parameters"), [("instance", 4_758_280), ("batch", 4_759_438)])
def test_the_baseline_is_monais_network(norm: Any, parameters: int) -> None:
    """The counts are those of MONAI's `UNet` with kernel 5 and two residual units; so are the names."""
    network = Wimmer2023Baseline(Wimmer2023BaselineSettings(input_channels=2, output_channels=3, norm=norm))
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert {"model.0.conv.unit0.adn.A.weight", "model.1.submodule.2.0.conv.weight"} <= network.state_dict().keys()
    y = network(torch.randn(1, 2, 16, 24, 16))
    assert y.shape == (1, 3, 16, 24, 16)
    y.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("kind", [Wimmer2023Settings, Wimmer2023BaselineSettings])
def test_settings_that_do_not_agree_are_refused(kind: Any) -> None:
    with pytest.raises(ValueError, match="4 levels need 3 strides"):
        kind(input_channels=1, output_channels=1, strides=(2, 2))
    with pytest.raises(ValueError, match="`residual_units` must be at least 1"):
        kind(input_channels=1, output_channels=1, residual_units=0)
