"""All weights of a network in half precision at once, for GPUs in mixed precision.

Autocast converts each weight by a kernel of its own and each gradient back by another: more than a hundred small kernels in a training
step of `se`. Within `halved`, layers find their weights already converted by a few kernels for the whole network. The numbers are the same.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from itertools import accumulate
from types import MappingProxyType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable

Weights = tuple[Tensor, Tensor | None]  # weight or kernels, and bias
ALIGNED = 64  # numbers; tensor cores want weights that begin at multiples of 16 bytes
_present: ContextVar[Mapping[int, Weights]] = ContextVar("present", default=MappingProxyType({}))  # by the id of a layer
_kept: WeakKeyDictionary[nn.Module, tuple[object, Mapping[int, Weights]]] = WeakKeyDictionary()  # without gradients, by network


class WeightedLayer(nn.Module, ABC):
    """A layer whose weights may be converted together with those of all others."""

    @abstractmethod
    def weights(self) -> Weights:
        """Return what the layer computes with: parameters, or what is made of them."""


def weights_of(layer: WeightedLayer) -> Weights:
    """Return a layer's weights, within `halved` in half precision."""
    if torch.compiler.is_compiling():
        return layer.weights()
    found = _present.get().get(id(layer))
    return layer.weights() if found is None else found


def halved(network: nn.Module, image: Tensor, is_recomputed: bool = False) -> AbstractContextManager[None]:
    """Return the context in which the layers of a network have their weights in half precision, if that helps.

    It helps where autocast would convert them, on GPUs. Networks that are compiled or shared by several processes are left to
    autocast: a compiler merges the conversions itself, and gradients that come all at once could not be sent while others are computed.
    A network that uses its layers several times, as a pyramid does, would add up their gradients in half precision.

    Args:
        network: network whose layers are to be used.
        image: its input.
        is_recomputed: whether parts of the network run again in the backward pass, outside of this context.
    """
    is_mixed = image.device.type == "cuda" and not torch.compiler.is_compiling() and torch.is_autocast_enabled("cuda")
    if not is_mixed or (torch.is_grad_enabled() and (is_recomputed or _are_several())):
        return nullcontext()
    return _halved(network, torch.get_autocast_dtype("cuda"))


@contextmanager
def _halved(network: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    token = _present.set(_convert(network, dtype) if torch.is_grad_enabled() else _kept_halves(network, dtype))
    try:
        yield
    finally:
        _present.reset(token)


def _kept_halves(network: nn.Module, dtype: torch.dtype) -> Mapping[int, Weights]:
    """Return the halves of a network without gradients, which are kept until a weight changes."""
    key = (dtype, *((one._version, one.data_ptr()) for one in network.parameters()))
    kept = _kept.get(network)  # read once: another thread may replace it
    if kept is None or kept[0] != key:
        kept = _kept[network] = (key, _convert(network, dtype))
    return kept[1]


def _convert(network: nn.Module, dtype: torch.dtype) -> dict[int, Weights]:
    """Return the weights of all layers in half precision, by the id of the layer."""
    given = {id(layer): layer.weights() for layer in network.modules() if isinstance(layer, WeightedLayer)}
    singles = [one for weights in given.values() for one in weights if one is not None and one.dtype == torch.float32]
    halves = dict(zip(map(id, singles), _InHalf.apply(dtype, *singles), strict=True)) if singles else {}
    return {layer: (halves.get(id(weight), weight), halves.get(id(bias), bias)) for layer, (weight, bias) in given.items()}


class _InHalf(torch.autograd.Function):
    """Converts tensors to a number type together, and their gradients to float32 together."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)  # a head that no loss looks at has none
        return tuple(converted(tensors, dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        wide = iter(converted([one for one in gradients if one is not None], torch.float32))
        return None, *(None if one is None else next(wide) for one in gradients)


def converted(tensors: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Return tensors of one number type and device in another type and the same layout, as views of one new tensor."""
    if not tensors:
        return []
    dense = [one if _is_dense(one) else one.contiguous() for one in tensors]
    places = list(accumulate((-(-one.numel() // ALIGNED) * ALIGNED for one in dense), initial=0))
    new = torch.empty(places.pop(), dtype=dtype, device=dense[0].device)
    views = [new.as_strided(one.size(), one.stride(), place) for one, place in zip(dense, places, strict=True)]
    torch._foreach_copy_(views, dense)  # which takes few kernels where sizes and strides are equal
    return views


def _is_dense(tensor: Tensor) -> bool:
    """Return whether the values fill a piece of memory, in whatever order, each in a place of its own."""
    return 1 + sum((size - 1) * stride for size, stride in zip(tensor.size(), tensor.stride(), strict=True)) == tensor.numel()


def _are_several() -> bool:
    """Return whether several processes share the gradients."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
