"""Networks for other programs: ONNX."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import torch
from torch import nn

from configs.files import replacing
from se_unet.layers.convolution import ScaleConvolution


def export_onnx(network: nn.Module, path: Path, shape: Sequence[int]) -> None:
    """Write the network as it evaluates, with merged kernels: `image` (B, C, Z, Y, X) -> `logits` (B, K, Z, Y, X), float32, any B.

    Needs the packages `onnx` and `onnxscript`.

    Args:
        network: as built by `build_network`; it stays as it is.
        path: of the file to write.
        shape: (C, Z, Y, X) of the images, divisible by the network's total stride.
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
    """A copy on the CPU, in evaluation, whose scale-equivariant convolutions are ordinary ones with fixed kernels."""
    copy = deepcopy(network).cpu().float().eval()
    with torch.no_grad():
        for layer in copy.modules():
            if isinstance(layer, ScaleConvolution):
                layer.merge()
    return copy
