"""Read the header of an untrusted safetensors file. Format: https://huggingface.co/docs/safetensors."""

import math
from collections.abc import Mapping
from typing import Any, BinaryIO

from configs.files import parse_json
from configs.plan import NetworkPlan
from inference.bundle.contents import MOST_TEXT_BYTES

_KERNEL_SHARE = 64  # largest ratio of kernel values to weights: kernels of `se` are sums of few basis functions
_WIDEST_SIGMA = 100.0  # voxels


def implausible(planned: NetworkPlan, tensors: Mapping[str, tuple[int, ...]]) -> str | None:
    """Return the first reason why these tensors cannot be the planned network's, or None.

    A network that passes takes memory in proportion to the weights file, so it is safe to build it and compare tensor by tensor.
    """
    network = planned.network
    numbers = sum(math.prod(shape) for shape in tensors.values())
    blocks = sum(network.encoder_blocks) + sum(network.decoder_blocks)
    if blocks > len(tensors):
        return f"the plan has {blocks} blocks, but the file has {len(tensors)} tensors"
    channels = (network.input_channels, *network.features)
    kernels = [math.prod(kernel) for kernel in network.kernels]
    values = sum(before * after * kernel for before, after, kernel in zip(channels, channels[1:], kernels, strict=False))
    values += network.output_channels * network.features[0]
    if values > _KERNEL_SHARE * numbers:
        return f"the plan's kernels have {values} values, but the file has {numbers}"
    group = network.scale_group
    if group is not None and not group.sigmas[-1] / min(network.spacing) <= _WIDEST_SIGMA:
        return f"the widest kernel has a sigma of {group.sigmas[-1] / min(network.spacing):.3g} voxels"
    return None


_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


def tensor_shapes(stream: BinaryIO, size: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor by name, from the header at the beginning of a safetensors file of `size` bytes.

    Raises:
        ValueError: the header is damaged, or does not describe exactly the bytes that follow.
    """
    length = int.from_bytes(stream.read(8), "little")
    if size < 8 or not 2 <= length <= min(size - 8, MOST_TEXT_BYTES):
        raise ValueError(f"the header claims {length} bytes, but the file has {size}")
    header = parse_json(stream.read(length))
    if not isinstance(header, dict):
        raise ValueError("the header is not a JSON object")
    header.pop("__metadata__", None)
    tensors = {name: _tensor(name, entry) for name, entry in header.items()}
    end = 0
    for name, (_, first, last) in sorted(tensors.items(), key=lambda item: item[1][1:]):
        if first != end:
            raise ValueError(f"tensor `{name}` begins at byte {first}, but the one before it ends at {end}")
        end = last
    if end != size - 8 - length:
        raise ValueError(f"the tensors end at byte {end}, but the file has {size - 8 - length} bytes of data")
    return {name: shape for name, (shape, _, _) in tensors.items()}


def _tensor(name: str, entry: Any) -> tuple[tuple[int, ...], int, int]:
    """Return shape, first byte and end of a tensor."""
    try:
        dtype, shape, (first, last) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = (*shape, first, last)
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"tensor `{name}` is not described by dtype, shape and data_offsets") from error
    if not isinstance(dtype, str) or dtype not in _BYTES or any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError(f"tensor `{name}` has the unknown type {dtype!r}, or invalid sizes")
    if last - first != math.prod(shape) * _BYTES[dtype]:
        raise ValueError(f"tensor `{name}` of shape {tuple(shape)} cannot have {last - first} bytes")
    return tuple(shape), first, last
