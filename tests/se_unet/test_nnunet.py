"""nnU-Net's descriptions and names of weights in our terms; that the networks then agree is in `test_parity`."""

from typing import Any

import pytest
import torch

from configs.errors import InputError
from se_unet import build_network
from se_unet.nnunet.architecture import describe
from se_unet.nnunet.weights import rename, unwrapped

PARTS: dict[str, Any] = {
    "n_stages": 3,
    "features_per_stage": [4, 6, 8],
    "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
    "n_conv_per_stage": [2, 2, 3],
    "n_conv_per_stage_decoder": [1, 2],
    "conv_bias": True,
    "norm_op_kwargs": {"eps": 1e-05, "affine": True},
    "dropout_op": None,
    "nonlin": "torch.nn.LeakyReLU",
}


def architecture(kind: str = "PlainConvUNet", **changes: Any) -> dict[str, Any]:
    return {"network_class_name": f"dynamic_network_architectures.architectures.unet.{kind}", "arch_kwargs": PARTS | changes}


def test_a_description_counts_decoder_stages_from_the_finest() -> None:
    config = describe(architecture(), 2, 3, (3.0, 1.0, 1.0))
    assert (config.block, config.input_channels, config.output_channels, config.spacing) == ("plain", 2, 3, (3.0, 1.0, 1.0))
    assert (config.features, config.encoder_blocks, config.decoder_blocks) == ((4, 6, 8), (2, 2, 3), (2, 1))
    assert config.strides == ((1, 1, 1), (1, 2, 2), (2, 2, 2))


def test_two_axes_become_three_with_one_slice() -> None:
    flat = {"kernel_sizes": [[3, 3]] * 3, "strides": [[1, 1], [2, 2], [2, 2]]}
    config = describe(architecture(**flat), 1, 2, (1.0, 1.0, 1.0))
    assert config.kernels == ((1, 3, 3),) * 3
    assert config.strides == ((1, 1, 1), (1, 2, 2), (1, 2, 2))
    kernel = torch.randn(4, 1, 3, 3)
    renamed = rename({"encoder.stages.0.0.convs.0.conv.weight": kernel}, config)
    ours = build_network(config).state_dict()
    assert {name: tensor.shape for name, tensor in renamed.items()} == {
        "encoder.0.0.0.weight": ours["encoder.0.0.0.weight"].shape
    }


def test_other_networks_are_refused_with_every_reason() -> None:
    with pytest.raises(InputError, match="`Primus` is not supported"):
        describe(architecture("Primus"), 1, 2, (1.0, 1.0, 1.0))
    with pytest.raises(InputError) as caught:
        describe(architecture(nonlin="torch.nn.ReLU", conv_bias=False), 1, 2, (1.0, 1.0, 1.0))
    assert [fault.problem for fault in caught.value.faults] == ["`conv_bias` is False", "`nonlin` is torch.nn.ReLU"]


def test_wrapped_names_and_doubled_ones() -> None:
    config = describe(architecture(), 1, 2, (1.0, 1.0, 1.0))
    tensor = torch.zeros(2, 4, 1, 1, 1)
    wrapped = {
        "module._orig_mod.decoder.seg_layers.1.weight": tensor,
        "decoder.encoder.stages.0.0.convs.0.conv.weight": tensor,
        "encoder.stages.0.0.convs.0.all_modules.0.weight": tensor,
    }
    assert list(rename(unwrapped(wrapped), config)) == ["heads.0.weight"]


def test_unknown_weights_are_listed() -> None:
    config = describe(architecture(), 1, 2, (1.0, 1.0, 1.0))
    with pytest.raises(InputError) as caught:
        rename({"vit.a": torch.zeros(1), "vit.b": torch.zeros(1)}, config)
    assert [fault.where for fault in caught.value.faults] == ["weights `vit.a`", "weights `vit.b`"]
