"""The plain networks of the skeleton are nnU-Net's: the same parameters, the same outputs for the same weights."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from configs.network import NetworkConfig
from se_unet import build_network
from se_unet.layers.instance_norm import InstanceNorm
from se_unet.nnunet.weights import rename

architectures = pytest.importorskip(
    "dynamic_network_architectures.architectures.unet", reason="needs dynamic_network_architectures, a dependency of tests alone"
)

HIPPOCAMPUS: dict[str, Any] = {
    "input_channels": 1,
    "output_channels": 3,
    "features": (32, 64, 128, 256),
    "strides": ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2)),
    "kernels": ((3, 3, 3),) * 4,
    "encoder_blocks": (2, 2, 2, 2),
    "decoder_blocks": (2, 2, 2),
}
ANISOTROPIC: dict[str, Any] = {
    "input_channels": 2,
    "output_channels": 4,
    "features": (6, 10, 12),
    "strides": ((1, 1, 1), (1, 2, 2), (2, 2, 2)),
    "kernels": ((1, 3, 3), (3, 3, 3), (3, 3, 3)),
    "encoder_blocks": (1, 3, 4),
    "decoder_blocks": (1, 2),
}
SETTINGS = {"hippocampus": HIPPOCAMPUS, "anisotropic": ANISOTROPIC}


def config_of(settings: dict[str, Any], block: str) -> NetworkConfig:
    return NetworkConfig.model_validate({"family": "plain", "block": block, **settings})


def nnunet(config: NetworkConfig) -> nn.Module:
    """The network that nnU-Net would build from these settings, with random factors and offsets in its norms."""
    residual = config.block == "residual"
    blocks = "n_blocks_per_stage" if residual else "n_conv_per_stage"
    build = architectures.ResidualEncoderUNet if residual else architectures.PlainConvUNet
    network = build(
        input_channels=config.input_channels,
        n_stages=len(config.features),
        features_per_stage=config.features,
        conv_op=nn.Conv3d,
        kernel_sizes=config.kernels,
        strides=config.strides,
        num_classes=config.output_channels,
        n_conv_per_stage_decoder=config.decoder_blocks[::-1],  # nnU-Net counts from the coarsest
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=True,
        **{blocks: config.encoder_blocks},
    )
    torch.manual_seed(1)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.InstanceNorm3d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
    return network


def pair(settings: dict[str, Any], block: str) -> tuple[nn.Module, nn.Module]:
    """Our network and nnU-Net's with the same weights."""
    config = config_of(settings, block)
    theirs, ours = nnunet(config), build_network(config)
    ours.load_state_dict(rename(theirs.state_dict(), config))
    return ours, theirs


def image(config: dict[str, Any]) -> Tensor:
    return torch.randn(2, config["input_channels"], 16, 24, 16, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("block", ["plain", "residual"])
@pytest.mark.parametrize("name", SETTINGS)
def test_outputs_are_nnunets_for_the_same_weights(name: str, block: str) -> None:
    ours, theirs = pair(SETTINGS[name], block)
    x = image(SETTINGS[name])
    with torch.no_grad():
        for mine, reference in zip(ours.train()(x), theirs(x), strict=True):
            assert mine.shape == reference.shape
            assert (mine - reference).abs().max() / reference.abs().max() < 1e-5
        assert torch.allclose(ours.eval()(x), theirs(x)[0], rtol=0, atol=1e-5 * float(theirs(x)[0].abs().max()))


@pytest.mark.parametrize("block", ["plain", "residual"])
def test_a_slope_of_another_rectifier_would_show(block: str) -> None:
    ours, theirs = pair(ANISOTROPIC, block)
    for module in ours.modules():
        if isinstance(module, InstanceNorm) and module.slope is not None:
            module.slope = 0.02
        elif isinstance(module, nn.LeakyReLU):
            module.negative_slope = 0.02
    with torch.no_grad():
        mine, reference = ours.eval()(image(ANISOTROPIC)), theirs(image(ANISOTROPIC))[0]
    assert (mine - reference).abs().max() / reference.abs().max() > 1e-3


@pytest.mark.parametrize("block", ["plain", "residual"])
@pytest.mark.parametrize("name", SETTINGS)
def test_parameters_are_as_many_as_nnunets(name: str, block: str) -> None:
    config = config_of(SETTINGS[name], block)
    assert count(build_network(config)) == count(nnunet(config))


def test_the_hippocampus_network_has_5_60_million_parameters() -> None:
    assert round(count(build_network(config_of(HIPPOCAMPUS, "plain"))) / 1e6, 2) == 5.60


@pytest.mark.parametrize("block", ["plain", "residual"])
def test_weights_start_as_nnunets(block: str) -> None:
    """Kaiming's normal distribution with the rectifier's slope, and no offset."""
    network = build_network(config_of(HIPPOCAMPUS, block))
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv3d) and module.weight.numel() > 20_000]
    for module in convolutions:
        expected = (2 / (1 + 0.01**2) / module.weight[0].numel()) ** 0.5
        assert abs(float(module.weight.detach().std()) / expected - 1) < 0.03
        assert module.bias is None or not module.bias.any()


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
