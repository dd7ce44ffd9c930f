"""Which configurations a dataset gets, and what each looks like."""

import math

import pytest

from configs.errors import InputError
from configs.fingerprint import CaseFingerprint, Fingerprint, IntensityStatistics, SizeSpread
from configs.plan import Plan
from planners.options import PlanningOptions
from planners.plan import make_plan
from tests.planners.test_planning import DESCRIPTION

STATISTICS = IntensityStatistics(mean=10, std=4, median=9, min=-50, max=90, percentile_00_5=0, percentile_99_5=30)


def plan(spacing: tuple[float, float, float], shape: tuple[int, int, int], cases: int = 40, **options: object) -> Plan:
    """A plan of equal cases."""
    case = CaseFingerprint(spacing=spacing, shape=shape, shape_after_crop=shape, relative_size_after_crop=1.0, labels={})
    fingerprint = Fingerprint(
        cases={f"case_{index}": case for index in range(cases)},
        intensities=(STATISTICS,),
        size_spread={"a": SizeSpread(q10=10, q50=20, q90=30)},
    )
    return make_plan(DESCRIPTION, fingerprint, PlanningOptions(**{"networks": ("baseline",), **options}))  # type: ignore[arg-type]


CT = ((0.8, 0.8, 0.8), (400, 480, 480))


def test_small_images_need_no_lower_resolution() -> None:
    made = plan((1.0, 1.0, 1.0), (35, 50, 36))
    assert list(made.configurations) == ["2d", "3d_fullres"]
    assert "No lower resolution: a patch covers 1" in made.configurations["3d_fullres"].reasons["lower_resolution"]
    assert not any(network.batch_dice for network in made.configurations["3d_fullres"].networks.values())
    assert all(network.batch_dice for network in made.configurations["2d"].networks.values())


def test_large_images_get_a_coarser_grid_and_a_cascade() -> None:
    made = plan(*CT, networks=("se", "baseline"), configurations=("3d_lowres", "3d_fullres", "3d_cascade_fullres"))
    assert list(plan(*CT).configurations) == ["2d", "3d_lowres", "3d_fullres", "3d_cascade_fullres"]
    lower, full, cascade = (made.configurations[name] for name in ("3d_lowres", "3d_fullres", "3d_cascade_fullres"))
    assert math.prod(lower.networks["baseline"].patch_size) > 0.25 * math.prod(lower.median_shape)
    assert math.prod(full.networks["baseline"].patch_size) < 0.25 * math.prod(full.median_shape)
    assert not lower.networks["baseline"].batch_dice and full.networks["baseline"].batch_dice
    assert cascade.previous == "3d_lowres" and cascade.cases_of == "3d_fullres" and full.previous is None
    for name, network in cascade.networks.items():
        assert network.network.input_channels == 1 + 2
        assert network.patch_size == full.networks[name].patch_size


def test_networks_for_slices_are_flat() -> None:
    made = plan((0.8, 3.0, 0.8), (400, 90, 480)).configurations["2d"]
    assert made.slice_axis == 1 and "Slices across axis Y" in made.reasons["slice_axis"]
    assert made.grid_spacing((0.7, 5.0, 0.7)) == (0.8, 5.0, 0.8)
    network = made.networks["baseline"].network
    assert made.networks["baseline"].patch_size == (448, 1, 512)
    assert network.total_stride == (64, 1, 64) and network.kernels == ((3, 1, 3),) * 7
    assert network.features == (32, 64, 128, 256, 512, 512, 512)


def test_flat_images_get_slices_alone() -> None:
    made = plan((1.0, 0.5, 0.5), (1, 512, 512))
    assert list(made.configurations) == ["2d"]
    assert plan((0.1, 0.5, 0.5), (1, 512, 512)).configurations["2d"].slice_axis == 0  # fine, but there is one voxel only
    with pytest.raises(
        InputError, match=r"--configurations 3d_fullres: No volumes: the median case is a single slice. Choose from 2d"
    ):
        plan((1.0, 0.5, 0.5), (1, 512, 512), configurations=("3d_fullres",))


def test_selection() -> None:
    assert list(plan(*CT, configurations=("3d_fullres", "2d")).configurations) == ["2d", "3d_fullres"]
    with pytest.raises(
        InputError, match=r"3d_cascade_fullres: this configuration needs 3d_lowres and 3d_fullres. Add 3d_lowres and 3d_f"
    ):
        plan(*CT, configurations=("3d_cascade_fullres",))
    whole, part = plan(*CT), plan(*CT, configurations=("3d_fullres",))
    assert part.configurations["3d_fullres"] == whole.configurations["3d_fullres"]  # a selection changes nothing else


def test_wanted_patch_of_slices() -> None:
    flat = plan(*CT, patch_size=(1, 256, 256), configurations=("2d",)).configurations["2d"]
    assert flat.networks["baseline"].patch_size == (1, 256, 256)
    solid = plan(*CT, patch_size=(64, 64, 64)).configurations
    assert solid["3d_fullres"].networks["baseline"].patch_size == (64, 64, 64)
    assert solid["3d_cascade_fullres"].networks["baseline"].patch_size == (64, 64, 64)
    assert solid["2d"].networks["baseline"].patch_size == plan(*CT).configurations["2d"].networks["baseline"].patch_size


def test_sizes() -> None:
    small, medium, large = (
        plan(*CT, size=size).configurations["3d_fullres"].networks["baseline"] for size in ("small", "medium", "large")
    )
    assert small.patch_size == medium.patch_size and small.batch_size == medium.batch_size
    assert small.network.features == tuple(channels // 2 for channels in medium.network.features)
    assert large.network.block == "residual" and large.network.encoder_blocks == (1, 3, 4, 6, 6, 6)
    assert large.network.decoder_blocks == (1, 1, 1, 1, 1)
    assert math.prod(large.patch_size) > 2 * math.prod(medium.patch_size)
    tiny = plan((1.0, 1.0, 1.0), (36, 50, 35), cases=260, size="large").configurations["3d_fullres"].networks["baseline"]
    assert tiny.batch_size == 9  # the 5 % cap holds for every size
