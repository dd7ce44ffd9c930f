"""Multiply-adds and activation memory of a network, counted from tensor shapes without computing anything."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode


def multiply_adds(module: nn.Module, shape: Sequence[int]) -> int:
    """Return the multiply-adds of one forward pass in convolutions and matrix products, including blurs and the merging of kernels.

    Args:
        module: network or layer, counted in its current mode (training or evaluation).
        shape: shape of the input, (B, C, Z, Y, X) or (B, C, S, Z, Y, X).
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        _on_shapes(module)(torch.empty(*shape, device="meta"))
    return counter.get_total_flops() // 2


def activation_bytes(module: nn.Module, shape: Sequence[int]) -> int:
    """Return the bytes that autograd saves in the forward pass for the backward pass, without weights and buffers.

    Each storage counts once. With checkpointing, the backward pass also holds the activations of one stage at a time; these are not
    counted.

    Args:
        module: network or layer, counted in its current mode (training or evaluation) and in the precision of its weights.
        shape: shape of the input, (B, C, Z, Y, X) or (B, C, S, Z, Y, X).
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
    del output  # kept until here because it keeps the saved tensors alive
    return total


def _on_shapes(module: nn.Module) -> nn.Module:
    """Return a copy on PyTorch's meta device, where tensors have shapes but no values."""
    return deepcopy(module).to("meta")
