"""What a network costs, counted on shapes alone: neither time nor memory is spent."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

Shape = Sequence[int]


def multiply_adds(module: nn.Module, shape: Shape) -> int:
    """Multiply-adds of one forward pass, in convolutions and matrix products, those of blurs and merged kernels included.

    Args:
        module: a network or a layer, in training or evaluation as it is.
        shape: of the input, (B, C, Z, Y, X) or (B, C, S, Z, Y, X).
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        _on_shapes(module)(torch.empty(*shape, device="meta"))
    return counter.get_total_flops() // 2


def activation_bytes(module: nn.Module, shape: Shape) -> int:
    """Bytes kept from the forward pass for the backward pass: what autograd saves, each storage once, without weights and buffers.

    With checkpointing, the backward pass adds those of one stage at a time.

    Args:
        module: a network or a layer, in training or evaluation as it is; its precision is that of the input.
        shape: of the input, (B, C, Z, Y, X) or (B, C, S, Z, Y, X).
    """
    counted = _on_shapes(module)
    parameters, buffers = list(counted.parameters()), list(counted.buffers())
    own = {tensor.untyped_storage() for tensor in [*parameters, *buffers]}
    kept: set[Any] = set()

    def note(tensor: Tensor) -> Tensor:
        kept.add(tensor.untyped_storage())
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor), torch.enable_grad():
        output = counted(torch.empty(*shape, device="meta", dtype=parameters[0].dtype))
        total = sum(storage.nbytes() for storage in kept - own)
    del output  # it holds the saved tensors, and with them their storages, until they are counted
    return total


def _on_shapes(module: nn.Module) -> nn.Module:
    """A copy whose tensors have shapes and no values."""
    return deepcopy(module).to("meta")
