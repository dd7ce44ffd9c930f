"""The scale group follows the spread of sizes, in mm, within what it may cost."""

import math

import numpy as np
import pytest

from configs.errors import InputError
from configs.fingerprint import CaseFingerprint, Fingerprint, IntensityStatistics, SizeSpread
from configs.network import NetworkConfig, ScaleGroup
from planners.decision import Decision
from planners.fingerprint.measure import measure_case
from planners.fingerprint.sizes import size_spreads
from planners.options import PlanningOptions
from planners.plan import make_plan
from planners.rules.memory import training_bytes
from planners.rules.networks.scale_group import choose_scale_group, widest_spread
from planners.rules.networks.se_network import se_network
from planners.rules.networks.skeleton import baseline_network, choose_skeleton
from planners.rules.topology import choose_topology
from preprocessing.dataset.case import Case
from preprocessing.geometry.affine import Geometry
from se_unet.builder import build_network
from se_unet.cost import multiply_adds
from tests.planners.test_planning import DESCRIPTION

STATISTICS = IntensityStatistics(mean=10, std=4, median=9, min=-50, max=90, percentile_00_5=0, percentile_99_5=30)
WIDE_ENOUGH = 32


def group_of(ratio: float, **changes: object) -> ScaleGroup:
    spread = widest_spread({"a": SizeSpread(q10=5, q50=5, q90=5), "b": SizeSpread(q10=4, q50=4, q90=4 * ratio)})
    settings: dict[str, object] = {
        "spacing": (1, 1, 1),
        "kernel": (3, 3, 3),
        "channels": lambda _: WIDE_ENOUGH,
        "number": "spread",
    }
    return choose_scale_group(spread, **settings | changes).value  # type: ignore[arg-type]


@pytest.mark.parametrize(("ratio", "number"), [(1.0, 1), (1.3, 1), (1.5, 2), (2.0, 3), (3.0, 3), (4.0, 4), (100.0, 4)])
def test_it_widens_with_the_spread_of_sizes(ratio: float, number: int) -> None:
    group = group_of(ratio)
    assert group.number == number
    assert group.smallest_sigma == pytest.approx(0.9)


def test_it_is_one_scale_unless_more_are_asked_for() -> None:
    decision = choose_scale_group(Decision(1.6, "sizes vary"), (1, 1, 1), (3, 3, 3), lambda _: WIDE_ENOUGH)
    assert decision.value.number == 1 and "sizes vary; at equal cost, one scale learned best" in decision.reason


def test_it_is_physical_and_in_plane_for_thick_slices() -> None:
    assert group_of(3, spacing=(2, 2, 2)).smallest_sigma == pytest.approx(1.8)
    assert group_of(3, spacing=(5, 0.8, 1), kernel=(1, 3, 3)).smallest_sigma == pytest.approx(0.9)
    asked = group_of(3, number=1, step=2.0)
    assert (asked.number, asked.step) == (1, 2.0)


def test_a_group_is_smaller_where_it_would_starve_the_network() -> None:
    def channels(group: ScaleGroup) -> int:
        return 20 // group.number

    spread = Decision(2.0, "sizes vary")
    decision = choose_scale_group(spread, (1, 1, 1), (3, 3, 3), channels, number="spread")
    assert decision.value.number == 2 and "4 would leave fewer than 8 channels" in decision.reason
    assert choose_scale_group(spread, (1, 1, 1), (3, 3, 3), channels, number=4).value.number == 4  # as asked for


def phantoms(diameters: list[float], spacing: float) -> Fingerprint:
    """Balls, one in each case, measured as a dataset's cases are. Diameters are in voxels."""
    cases: dict[str, CaseFingerprint] = {}
    for index, diameter in enumerate(diameters):
        squared = sum((axis - 23.5) ** 2 for axis in np.indices((48, 48, 48)))
        labels = (squared < (diameter / 2) ** 2).astype(np.int16)
        geometry = Geometry.from_spacing((48, 48, 48), (spacing,) * 3)
        case = Case(f"case_{index}", np.ones((1, 48, 48, 48), np.float32), labels, geometry)
        cases[case.identifier] = measure_case(case, DESCRIPTION, 10).fingerprint
    return Fingerprint(cases=cases, intensities=(STATISTICS,), size_spread=size_spreads(cases))


def planned_group(fingerprint: Fingerprint) -> ScaleGroup:
    options = PlanningOptions(networks=("se",), configurations=("3d_fullres",), num_scales="spread")
    group = make_plan(DESCRIPTION, fingerprint, options).configurations["3d_fullres"].networks["se"].network.scale_group
    assert group is not None
    return group


def test_phantoms() -> None:
    alike = planned_group(phantoms([20, 20.5, 21, 20, 20.5, 21], 1.0))
    varied = phantoms([12, 16, 20, 25, 30, 36], 1.0)  # three-fold
    wide = planned_group(varied)
    assert alike.number == 1 and wide.number == 3
    assert math.log2(wide.sigmas[-1] / wide.sigmas[0]) == pytest.approx(2 / 3)
    twice = planned_group(phantoms([12, 16, 20, 25, 30, 36], 2.0))
    assert (twice.number, twice.step) == (wide.number, wide.step)
    assert twice.sigmas == pytest.approx([2 * sigma for sigma in wide.sigmas])  # in mm; in voxels the same


def networks(patch: tuple[int, int, int], scales: int) -> tuple[NetworkConfig, NetworkConfig]:
    topology, skeleton = choose_topology((1, 1, 1), patch), choose_skeleton("medium", slices=False)
    group = ScaleGroup(smallest_sigma=0.9, number=scales)
    return (
        se_network(DESCRIPTION, (1, 1, 1), topology, skeleton, group),
        baseline_network(DESCRIPTION, (1, 1, 1), topology, skeleton),
    )


@pytest.mark.parametrize("scales", [1, 3])
def test_multiply_adds_are_about_the_baselines(scales: int) -> None:
    cost, reference = (multiply_adds(build_network(config), (1, 1, 40, 56, 40)) for config in networks((40, 56, 40), scales))
    assert 0.85 < cost / reference < 1.2
    as_wide = networks((40, 56, 40), scales)[1].features
    wider = networks((40, 56, 40), scales)[0].model_copy(update={"features": as_wide})
    assert multiply_adds(build_network(wider), (1, 1, 40, 56, 40)) > 0.9 * scales * reference


def plan(options: PlanningOptions, shape: tuple[int, int, int] = (200, 200, 200)) -> NetworkConfig:
    case = CaseFingerprint(spacing=(1, 1, 1), shape=shape, shape_after_crop=shape, relative_size_after_crop=1.0, labels={})
    spread = {"a": SizeSpread(q10=10, q50=20, q90=30)}
    fingerprint = Fingerprint(cases={f"case_{n}": case for n in range(50)}, intensities=(STATISTICS,), size_spread=spread)
    return make_plan(DESCRIPTION, fingerprint, options).configurations["3d_fullres"].networks["se"]


def test_the_patch_of_a_large_image_fits_the_counted_memory() -> None:
    options = PlanningOptions(networks=("se",), configurations=("3d_fullres",), gpu_memory=6.0)
    planned = plan(options)
    assert 0.7 * 6e9 < training_bytes(planned.network, planned.patch_size, planned.batch_size) <= 6e9
    assert "takes" in planned.reasons["memory"] and "counted" in planned.reasons["memory"]
    assert plan(options) == planned
    small = plan(options, (36, 50, 35))
    assert "memory" not in small.reasons and "a training step takes less than" in small.reasons["batch_size"]


def test_scales_that_the_patch_cannot_hold_are_refused() -> None:
    options = PlanningOptions(networks=("se",), configurations=("3d_fullres",), num_scales=12, patch_size=(32, 32, 32))
    with pytest.raises(
        InputError, match=r"--num-scales 12 .*kernels of the largest scale span 45\.7 mm .* the patch .* spans only 32 mm"
    ):
        plan(options)
    with pytest.raises(InputError, match="only `se` has scales"):
        PlanningOptions(networks=("baseline",), num_scales=3)
