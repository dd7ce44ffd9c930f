"""nnU-Net's names of weights in ours."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from configs.errors import Fault, raise_faults
from configs.network import NetworkConfig

_UNIT = {"conv": "0", "norm": "1"}
_WRAPPERS = ("module.", "_orig_mod.")  # prefixes of the names in distributed and compiled networks
STEM = r"encoder\.(stem|stages\.0\.0)\.convs\.0\.conv\.weight"


def rename(state: Mapping[str, Tensor], config: NetworkConfig) -> dict[str, Tensor]:
    """Return nnU-Net's state dictionary, `unwrapped`, under the names of this package. Kernels of 2D networks get a first axis of length 1.

    Raises:
        InputError: some weights belong to no layer of the network; all of them are listed.
    """
    coarsest = len(config.features) - 2
    renamed: dict[str, Tensor] = {}
    faults = []
    for name, tensor in state.items():
        if name.startswith("decoder.encoder.") or ".all_modules." in name:
            continue  # a second name of the same tensors
        ours = _our_name(name, coarsest)
        if ours is None:
            faults.append(Fault(f"weights `{name}`", "no layer of the network has this name", "Give a network of nnU-Net"))
        else:
            renamed[ours] = tensor.unsqueeze(2) if tensor.ndim == 4 else tensor
    raise_faults(faults)
    return renamed


def _our_name(theirs: str, coarsest: int) -> str | None:
    """Return the name of a tensor in this package, or None where the network has no such tensor."""
    if match := re.fullmatch(r"encoder\.stem\.convs\.0\.(conv|norm)\.(\w+)", theirs):
        return f"encoder.0.0.{_UNIT[match[1]]}.{match[2]}"
    if match := re.fullmatch(r"encoder\.stages\.(\d+)\.0\.convs\.(\d+)\.(conv|norm)\.(\w+)", theirs):
        return f"encoder.{match[1]}.{match[2]}.{_UNIT[match[3]]}.{match[4]}"
    if match := re.fullmatch(r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.(conv1|conv2|skip\.\d+)\.(conv|norm)\.(\w+)", theirs):
        index = int(match[2]) + (match[1] == "0")  # here, the stem is the first module of the first stage
        return f"encoder.{match[1]}.{index}.{_residual_part(match[3], match[4])}.{match[5]}"
    if match := re.fullmatch(r"decoder\.(transpconvs|seg_layers)\.(\d+)\.(\w+)", theirs):
        part = {"transpconvs": "ups", "seg_layers": "heads"}[match[1]]
        return f"{part}.{coarsest - int(match[2])}.{match[3]}"
    if match := re.fullmatch(r"decoder\.stages\.(\d+)\.convs\.(\d+)\.(conv|norm)\.(\w+)", theirs):
        return f"decoder.{coarsest - int(match[1])}.{match[2]}.{_UNIT[match[3]]}.{match[4]}"
    return None


def _residual_part(part: str, unit: str) -> str:
    if part.startswith("skip."):
        return f"shortcut.{int(part.removeprefix('skip.')) + int(_UNIT[unit])}"
    return f"{'first' if part == 'conv1' else 'second'}.{_UNIT[unit]}"


def unwrapped(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return a state dictionary without the prefixes of distributed and compiled networks.

    Raises:
        TypeError: it is no dictionary, a name is not text, or a value is not an ordinary tensor of real numbers.
        ValueError: two tensors have the same name without prefixes.
    """
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise TypeError("the weights are not a dictionary of tensors by name")
    found: dict[str, Tensor] = {}
    for full_name, tensor in state.items():
        if not _is_ordinary(tensor):
            raise TypeError(f"`{full_name}` is not a tensor of real numbers in memory")
        name = _without_prefixes(full_name)
        if name in found:
            raise ValueError(f"two tensors are named `{name}`")
        found[name] = tensor
    return found


def _is_ordinary(tensor: Any) -> bool:
    """Return whether this is a tensor of real numbers that lie in the memory of the CPU."""
    is_dense = isinstance(tensor, Tensor) and tensor.layout == torch.strided and tensor.device.type == "cpu"
    return is_dense and not tensor.is_complex() and not tensor.is_quantized


def _without_prefixes(name: str) -> str:
    while any(name.startswith(wrapper) for wrapper in _WRAPPERS):
        name = name[len(next(wrapper for wrapper in _WRAPPERS if name.startswith(wrapper))) :]
    return name
