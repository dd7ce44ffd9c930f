"""The published networks are planned on request, as they were published."""

import pytest
import torch

from configs.errors import InputError
from configs.plan import Plan
from planners.options import PlanningOptions
from planners.plan import make_plan
from se_unet import build_network, wimmer2023, wimmer2023_baseline
from tests.planners.test_planning import DESCRIPTION, fingerprint


def planned(*networks: str, shape: tuple[int, int, int] = (50, 60, 70), **options: object) -> Plan:
    data = fingerprint((1.0, 1.0, 1.0), shape)
    return make_plan(DESCRIPTION, data, PlanningOptions(networks=networks, **options))  # type: ignore[arg-type]


def test_the_networks_are_those_of_the_paper() -> None:
    networks = planned("wimmer2023", "wimmer2023_baseline", "baseline").configurations["3d_fullres"].networks
    channels, outputs = len(DESCRIPTION.channels), DESCRIPTION.output_channels
    assert networks["wimmer2023"].network == wimmer2023(channels, outputs)
    assert networks["wimmer2023_baseline"].network == wimmer2023_baseline(channels, outputs)
    assert networks["wimmer2023"].batch_size == networks["baseline"].batch_size
    for one in networks.values():
        assert all(size % stride == 0 for size, stride in zip(one.patch_size, one.network.total_stride, strict=True))
    network = build_network(networks["wimmer2023"].network)
    assert network(torch.zeros(1, channels, 24, 24, 24)).shape == (1, outputs, 24, 24, 24)


def test_slices_have_no_published_network() -> None:
    assert list(planned("wimmer2023").configurations) == ["3d_fullres"]
    both = planned("wimmer2023", "baseline").configurations
    assert list(both["2d"].networks) == ["baseline"] and list(both["3d_fullres"].networks) == ["wimmer2023", "baseline"]
    with pytest.raises(InputError, match="published for volumes, not for the slices of 2d"):
        planned("wimmer2023", configurations=("2d",))


def test_a_patch_that_the_published_strides_do_not_divide_is_enlarged_or_refused() -> None:
    flat = planned("wimmer2023", "baseline", shape=(12, 200, 200)).configurations["3d_fullres"].networks
    assert flat["baseline"].patch_size[0] % 8 and flat["wimmer2023"].patch_size[0] % 8 == 0
    with pytest.raises(InputError, match="the published strides 8 x 8 x 8 do not divide it"):
        planned("wimmer2023", shape=(12, 200, 200), patch_size=(12, 64, 64), configurations=("3d_fullres",))
