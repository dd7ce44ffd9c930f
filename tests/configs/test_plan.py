"""The plan comes back from JSON as it was, holds together, and says what it holds when asked for something else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from configs.dataset import DatasetDescription
from configs.errors import InputError
from configs.files import read_json, write_json
from configs.fingerprint import IntensityStatistics
from configs.network import NetworkConfig, ScaleGroup
from configs.plan import ChannelNormalisation, ConfigurationPlan, ModelPlan, NetworkPlan, Plan
from se_unet.published.descriptions import wimmer2023, wimmer2023_baseline

NETWORK: dict[str, Any] = {
    "family": "plain",
    "input_channels": 1,
    "output_channels": 2,
    "features": (8, 16, 32),
    "strides": ((1, 1, 1), (1, 2, 2), (2, 2, 2)),
    "kernels": ((1, 3, 3), (3, 3, 3), (3, 3, 3)),
    "encoder_blocks": (2, 2, 2),
    "decoder_blocks": (2, 2),
}
STATISTICS = IntensityStatistics(mean=40.5, std=1 / 3, median=41, min=-1000, max=3000, percentile_00_5=-90, percentile_99_5=200)


def make_plan() -> Plan:
    plain = NetworkConfig(**NETWORK)
    equivariant = NetworkConfig(**NETWORK | {"family": "se", "scale_group": ScaleGroup(smallest_sigma=0.7, number=3)})
    networks = {
        "se": NetworkPlan(
            network=equivariant, patch_size=(8, 16, 16), batch_size=2, scaling_probability=0.4, reasons={"batch": "2 fit"}
        ),
        "baseline": NetworkPlan(network=plain, patch_size=(16, 32, 32), batch_size=2),
    }
    configuration = ConfigurationPlan(
        spacing=(2.5, 0.1 + 0.2, 0.3),
        median_shape=(20, 60, 60),
        normalisation=(ChannelNormalisation(channel="CT", scheme="ct", statistics=STATISTICS),),
        networks=networks,
    )
    dataset = DatasetDescription(name="Spleen", channels=("CT",), labels={"background": 0, "spleen": 1})
    return Plan(dataset=dataset, configurations={"3d_fullres": configuration, "3d_lowres": configuration})


def test_json_round_trip_is_exact(tmp_path: Path) -> None:
    plan = make_plan()
    plan.write(tmp_path / "plan.json")
    assert Plan.read(tmp_path / "plan.json") == plan


def test_slices_have_no_reflection_along_their_normal() -> None:
    planned = make_plan().network("3d_fullres", "se")
    assert planned.reflections == 8 and planned.model_copy(update={"patch_size": (1, 16, 16)}).reflections == 4
    assert planned.model_copy(update={"mirror_axes": (0,)}).reflections == 2


def test_another_format_version_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "plan.json", make_plan().model_dump(mode="json") | {"version": 2})
    with pytest.raises(InputError, match=r"plan\.json: version: Input should be 1"):
        Plan.read(tmp_path / "plan.json")


def test_nested_faults_are_told_with_their_place(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    make_plan().write(path)
    content = read_json(path)
    content["configurations"]["3d_lowres"]["networks"]["se"]["batch_size"] = 0
    content["configurations"]["3d_fullres"]["spacing"] = [1, 1]
    write_json(path, content)
    with pytest.raises(InputError) as caught:
        Plan.read(path)
    told = str(caught.value)
    assert "configurations.3d_lowres.networks.se.batch_size: Input should be greater than or equal to 1" in told
    assert "configurations.3d_fullres.spacing" in told


def test_only_keeps_one_network_of_one_configuration() -> None:
    plan = make_plan()
    model = plan.only("3d_fullres", "se")
    assert (model.configuration_name, model.network_name) == ("3d_fullres", "se")
    assert list(model.whole.configurations) == ["3d_fullres"]
    assert model.network == plan.network("3d_fullres", "se")
    assert list(model.configuration.networks) == ["se"]
    assert (model.dataset, model.orientation) == (plan.dataset, plan.orientation)
    assert plan == make_plan()


def test_only_takes_a_replacement() -> None:
    plan = make_plan()
    smaller = plan.network("3d_fullres", "se").model_copy(update={"batch_size": 1})
    assert plan.only("3d_fullres", "se", smaller).network == smaller


def test_a_model_has_one_network(tmp_path: Path) -> None:
    plan, path = make_plan(), tmp_path / "plan.json"
    with pytest.raises(ValueError, match="2 configurations, but a model has one network"):
        ModelPlan(plan)
    plan.write(path)
    with pytest.raises(InputError, match="a model has one network"):
        ModelPlan.read(path)
    plan.only("3d_fullres", "se").write(path)
    assert ModelPlan.read(path) == plan.only("3d_fullres", "se")


def test_unknown_names_are_told_with_the_known_ones() -> None:
    plan = make_plan()
    with pytest.raises(InputError, match="configuration `2d`: the plan holds 3d_fullres, 3d_lowres"):
        plan.configuration("2d")
    with pytest.raises(InputError, match="network `unet`: the plan holds se, baseline"):
        plan.network("3d_fullres", "unet")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": ()}, "at least 1 item"),
        ({"features": (8, 16)}, "`strides` must have 2 entries for 2 stages, not 3"),
        ({"kernels": ((3, 3, 3),)}, "`kernels` must have 3 entries"),
        ({"decoder_blocks": (2, 2, 2)}, "`decoder_blocks` must have 2 entries for 3 stages"),
        ({"features": (8, 0, 8)}, "`features` must be positive"),
        ({"encoder_blocks": (1, 1, 0)}, "`encoder_blocks` must be positive"),
        ({"strides": ((1, 1, 1), (3, 1, 1), (2, 2, 2))}, "strides must be 1 or 2"),
        ({"strides": ((1, 2, 2), (1, 2, 2), (2, 2, 2))}, r"the first stage's strides must be \(1, 1, 1\), not \(1, 2, 2\)"),
        ({"family": "wimmer2023_baseline", "scale_group": ScaleGroup(smallest_sigma=1)}, "must not have a scale group"),
        ({"kernels": ((3, 3, 3), (3, 4, 3), (3, 3, 3))}, "kernel sizes must be odd"),
        ({"spacing": (1, 0, 1)}, "spacing must be positive"),
        ({"family": "se"}, "family `se` needs a scale group"),
        ({"scale_group": ScaleGroup(smallest_sigma=1)}, "family `plain` must not have a scale group"),
        ({"input_channels": 0}, "greater than or equal to 1"),
        ({"basis_order": 4}, "basis_order"),
        ({"scale_dropout": 1.0}, "less than 1"),
        ({"width": 3}, "Extra inputs are not permitted"),
    ],
)
def test_network_guards(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        NetworkConfig(**NETWORK | change)


def test_total_stride_multiplies_the_stages() -> None:
    assert NetworkConfig(**NETWORK).total_stride == (2, 4, 4)


@pytest.mark.parametrize("describe", [wimmer2023, wimmer2023_baseline])
def test_published_networks_halve_at_every_level_but_the_last(describe: Callable[[int, int], NetworkConfig]) -> None:
    network = describe(4, 1)
    assert network.total_stride == (8, 8, 8)
    assert NetworkConfig.model_validate(network.model_dump()) == network


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch_size": (8, 16, 18)}, r"the patch \(8, 16, 18\) is not divisible by the total stride \(2, 4, 4\)"),
        ({"test_scales": (0.8, 1.0)}, "give the scales to se_predict with --scales"),
        ({"scaling_probability": 1.5}, "less than or equal to 1"),
        ({"batch_size": 0}, "greater than or equal to 1"),
    ],
)
def test_network_plan_guards(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        NetworkPlan(**{"network": NetworkConfig(**NETWORK), "patch_size": (8, 16, 16), "batch_size": 1} | change)


def test_slices_are_flat_and_keep_their_spacing() -> None:
    volume = make_plan().configuration("3d_fullres")
    assert volume.grid_spacing((5, 1, 1)) == volume.spacing
    with pytest.raises(ValidationError, match="network `se`: patch, kernels and strides must be 1 along the slice axis 0"):
        ConfigurationPlan.model_validate(volume.model_dump() | {"slice_axis": 0})
    slices = ConfigurationPlan.model_validate(volume.model_dump() | {"slice_axis": 1, "networks": {}})
    assert slices.grid_spacing((5, 7, 1)) == (volume.spacing[0], 7, volume.spacing[2])


def test_ct_normalisation_needs_statistics() -> None:
    with pytest.raises(ValidationError, match="channel `CT`: scheme `ct` needs foreground statistics"):
        ChannelNormalisation(channel="CT", scheme="ct")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"smallest_sigma": 0}, "greater than 0"),
        ({"step": 1}, "greater than 1"),
        ({"number": 0}, "greater than or equal to 1"),
        ({"smallest_sigma": float("inf")}, "finite number"),
    ],
)
def test_scale_group_guards(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ScaleGroup(**{"smallest_sigma": 1.0} | change)


def test_scales_ascend_by_the_step() -> None:
    assert ScaleGroup(smallest_sigma=0.5, step=2, number=4).sigmas == (0.5, 1, 2, 4)
