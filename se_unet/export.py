"""Export networks to ONNX."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import torch
from torch import nn

from configs.files import replacing
from se_unet.layers.convolution import ScaleConvolution


def export_onnx(network: nn.Module, path: Path, shape: Sequence[int]) -> None:
    """Write a network in evaluation mode with merged kernels, in float32 and for any batch size B.

    The input is `image` (B, C, Z, Y, X), the output `logits` (B, K, Z, Y, X). Needs the packages `onnx` and `onnxscript`.

    Args:
        network: network from `build_network`; it is not changed.
        path: path of the ONNX file to write.
        shape: (C, Z, Y, X) of the images; Z, Y and X must be divisible by the network's total stride.
    """
    copy = merged_copy(network)
    image = torch.zeros(2, *shape)
    with torch.no_grad():
        program = torch.onnx.export(
            copy,
            (image,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=["image"],
            output_names=["logits"],
            verbose=False,
        )
    if program is None:
        raise RuntimeError("the exporter returned no program")
    with replacing(path) as temporary:
        program.save(temporary)


def merged_copy(network: nn.Module) -> nn.Module:
    """Return a copy on the CPU in evaluation mode whose scale-equivariant convolutions have fixed kernels."""
    copy = deepcopy(network).cpu().float().eval()
    with torch.no_grad():
        for layer in copy.modules():
            if isinstance(layer, ScaleConvolution):
                layer.merge()
    return copy
