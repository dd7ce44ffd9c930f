"""Published networks are built from the same description as all others."""

import pytest
import torch

from configs.errors import InputError
from se_unet import build_network
from se_unet.published.building import PaddedWimmer2023
from se_unet.published.descriptions import wimmer2023, wimmer2023_baseline
from se_unet.published.wimmer2023 import Wimmer2023, Wimmer2023Settings
from se_unet.published.wimmer2023_baseline import Wimmer2023Baseline, Wimmer2023BaselineSettings


def test_the_description_gives_the_published_network() -> None:
    network = build_network(wimmer2023(4, 1)).eval()
    assert isinstance(network, PaddedWimmer2023)
    published = Wimmer2023(Wimmer2023Settings(input_channels=4, output_channels=1)).eval()
    published.load_state_dict(network.state_dict())
    image = torch.randn(1, 4, 29, 29, 29)
    with torch.no_grad():
        torch.testing.assert_close(network(image), published(image))
        assert network.settings.basis.scales == pytest.approx((1.0, 0.9, 0.81, 0.729))


def test_a_description_in_mm_gives_widths_in_voxels() -> None:
    network = build_network(wimmer2023(1, 2, (2, 2), spacing=(2.0, 0.5, 0.5)))
    assert network.settings.basis.scales == pytest.approx((1.0, 0.9, 0.81, 0.729))


def test_any_size_goes_through() -> None:
    config = wimmer2023(1, 2, (2, 3, 4))
    network = build_network(config).eval()
    size = tuple(4 * stride for stride in config.total_stride)
    assert not all(network.fits(n) for n in size)
    assert network(torch.randn(1, 1, *size)).shape == (1, 2, *size)


def test_the_description_gives_the_published_baseline() -> None:
    network = build_network(wimmer2023_baseline(2, 3, (2, 3, 4))).eval()
    published = Wimmer2023Baseline(Wimmer2023BaselineSettings(2, 3, (2, 3, 4), (2, 2))).eval()
    published.load_state_dict(network.state_dict())
    image = torch.randn(1, 2, 8, 8, 12)
    with torch.no_grad():
        torch.testing.assert_close(network(image), published(image))


def test_projection_and_scales_may_be_chosen_and_nothing_else() -> None:
    config = wimmer2023(1, 2, (2, 3))
    assert config.scale_group is not None
    fewer = config.scale_group.model_copy(update={"number": 2})
    network = build_network(config.model_copy(update={"projection": "max", "scale_group": fewer}))
    assert network.settings.projection == "max"
    assert len(network.settings.basis.scales) == 2
    changed = config.model_copy(update={"deep_supervision": True, "kernels": ((3, 3, 3),) * 2, "projection": "learned"})
    with pytest.raises(InputError) as caught:
        build_network(changed)
    assert [fault.where for fault in caught.value.faults] == [
        "network: `kernels`",
        "network: `projection`",
        "network: `deep_supervision`",
    ]
