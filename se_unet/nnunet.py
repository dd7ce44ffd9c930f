"""Read nnU-Net checkpoints: the description and the renamed weights of a PlainConvUNet or ResidualEncoderUNet.

A network of the family `plain` computes the same as these networks; only the names of its weights differ.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from configs.errors import Fault, InputError, raise_faults
from configs.network import Axes, NetworkConfig
from se_unet.weights import load_restricted

_SCALAR = np.float64(0).__reduce__()[0]  # constructor of NumPy scalars, whose module differs between NumPy versions


@dataclass(frozen=True)
class NNUNetCheckpoint:
    """Content of a checkpoint that describes the network.

    Attributes:
        path: path of the checkpoint file.
        weights: nnU-Net's state dictionary, on the CPU.
        plans: content of nnU-Net's plan.
        configuration: name of the configuration, such as `3d_fullres`.
        fold: fold that was trained.
        dataset: content of nnU-Net's `dataset.json`.
        mirror_axes: spatial axes that were mirrored in training, or None.
    """

    path: Path
    weights: Mapping[str, Tensor]
    plans: Mapping[str, Any]
    configuration: str
    fold: int | str
    dataset: Mapping[str, Any]
    mirror_axes: tuple[int, ...] | None

    @property
    def settings(self) -> dict[str, Any]:
        """nnU-Net's plan of the configuration, including the settings that it inherits from others."""
        return _inherited(self.plans["configurations"], self.configuration)

    @property
    def network(self) -> NetworkConfig:
        """Description of the network.

        Raises:
            InputError: the family `plain` has no such network.
        """
        settings = self.settings
        spacing = [float(size) for size in settings["spacing"]]
        z, y, x = [1.0] * (3 - len(spacing)) + spacing
        inputs = len(self.dataset.get("channel_names", self.dataset.get("modality", ())))
        outputs = self.weights[self._head].shape[0]
        return describe(settings["architecture"], inputs, int(outputs), (z, y, x))

    def our_weights(self) -> dict[str, Tensor]:
        """Return the weights renamed for `se_unet.build_network(checkpoint.network)`.

        Raises:
            InputError: the family `plain` has no such network, or some weights belong to no layer of it.
        """
        return rename(self.weights, self.network)

    @property
    def _head(self) -> str:
        heads = [name for name in self.weights if "seg_layers" in name and name.endswith("weight")]
        if not heads:
            raise InputError(Fault(str(self.path), "the network has no segmentation layers", "Give a checkpoint of a U-Net"))
        return heads[-1]


def read_nnunet_checkpoint(path: Path) -> NNUNetCheckpoint:
    """Read a checkpoint of nnU-Net 2, such as `checkpoint_final.pth`.

    PyTorch's restricted unpickler builds only tensors, plain containers, and the NumPy scalars of nnU-Net's logs.

    Raises:
        InputError: the file is not a checkpoint of nnU-Net 2, is damaged, or contains code.
    """
    content = load_restricted(path, "Give a file that nnU-Net 2 wrote, such as checkpoint_final.pth", _numpy_scalars())
    try:
        arguments = content["init_args"]
        axes = content.get("inference_allowed_mirroring_axes")
        return NNUNetCheckpoint(
            path=path,
            weights=content["network_weights"],
            plans=arguments["plans"],
            configuration=arguments["configuration"],
            fold=arguments["fold"],
            dataset=arguments["dataset_json"],
            mirror_axes=None if axes is None else tuple(int(axis) for axis in axes),
        )
    except (KeyError, TypeError, AttributeError) as error:
        problem = f"the file is not a checkpoint of nnU-Net 2 ({type(error).__name__}: {error})"
        raise InputError(Fault(str(path), problem, "Give a file such as checkpoint_final.pth")) from error


def _numpy_scalars() -> list[Any]:
    """Return the constructor and the types of NumPy scalars, the constructor under its old and its new name."""
    types = [type(np.dtype(kind)) for kind in ("float64", "float32", "float16", "int64", "int32", "int16", "uint8", "bool")]
    return [_SCALAR, (_SCALAR, "numpy.core.multiarray.scalar"), (_SCALAR, "numpy._core.multiarray.scalar"), np.dtype, *types]


def _inherited(configurations: Mapping[str, Any], name: str) -> dict[str, Any]:
    settings = dict(configurations[name])
    parent = settings.pop("inherits_from", None)
    return {**_inherited(configurations, parent), **settings} if parent else settings


BLOCKS = {"PlainConvUNet": "plain", "ResidualEncoderUNet": "residual"}
_UNIT = {"conv": "0", "norm": "1"}
_WRAPPERS = ("module.", "_orig_mod.")  # prefixes of the names in distributed and compiled networks
_SUPPORTED = {
    "conv_bias": True,
    "dropout_op": None,
    "nonlin": "torch.nn.LeakyReLU",
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
}


def describe(
    architecture: Mapping[str, Any], input_channels: int, output_channels: int, spacing: tuple[float, float, float]
) -> NetworkConfig:
    """Return the description of the network in a plan's `architecture`, for input with this spacing in mm (Z, Y, X).

    Raises:
        InputError: the plan names another class of network, or settings that the family `plain` does not have; all are listed.
    """
    kind = str(architecture.get("network_class_name", "")).rsplit(".", 1)[-1]
    if kind not in BLOCKS:
        problem = f"the network class `{kind}` is not supported"
        raise InputError(Fault("nnU-Net plan", problem, f"Use one of the supported classes: {', '.join(BLOCKS)}"))
    parts: Mapping[str, Any] = architecture["arch_kwargs"]
    raise_faults(
        Fault("nnU-Net plan", f"`{name}` is {parts[name]}", f"Only networks with {supported} are supported")
        for name, supported in _SUPPORTED.items()
        if name in parts and parts[name] != supported
    )
    stages = int(parts["n_stages"])
    return NetworkConfig.model_validate(
        {
            "family": "plain",
            "block": BLOCKS[kind],
            "input_channels": input_channels,
            "output_channels": output_channels,
            "features": tuple(parts["features_per_stage"]),
            "strides": tuple(_three(strides) for strides in parts["strides"]),
            "kernels": tuple(_three(kernel) for kernel in parts["kernel_sizes"]),
            "encoder_blocks": _per_stage(parts.get("n_blocks_per_stage", parts.get("n_conv_per_stage", 2)), stages),
            # nnU-Net numbers decoder stages from the coarsest, this package from the finest
            "decoder_blocks": _per_stage(parts["n_conv_per_stage_decoder"], stages - 1)[::-1],
            "spacing": spacing,
        }
    )


def rename(state: Mapping[str, Tensor], config: NetworkConfig) -> dict[str, Tensor]:
    """Return nnU-Net's state dictionary under the names of this package. Kernels of 2D networks get a first axis of length 1.

    Raises:
        InputError: some weights belong to no layer of the network; all of them are listed.
    """
    coarsest = len(config.features) - 2
    renamed: dict[str, Tensor] = {}
    faults = []
    for full_name, tensor in state.items():
        name = _unwrapped(full_name)
        if name.startswith("decoder.encoder.") or ".all_modules." in name:
            continue  # a second name of the same tensors
        ours = _our_name(name, coarsest)
        if ours is None:
            faults.append(Fault(f"weights `{full_name}`", "no layer of the network has this name", "Give a network of nnU-Net"))
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


def _unwrapped(name: str) -> str:
    while any(name.startswith(wrapper) for wrapper in _WRAPPERS):
        name = name[len(next(wrapper for wrapper in _WRAPPERS if name.startswith(wrapper))) :]
    return name


def _three(axes: Sequence[int] | int) -> Axes:
    """Return values as (Z, Y, X), from one for all axes or from two for (Y, X); Z is then 1."""
    values = [axes] * 3 if isinstance(axes, int) else [1] * (3 - len(axes)) + list(axes)
    return values[0], values[1], values[2]


def _per_stage(values: Sequence[int] | int, stages: int) -> tuple[int, ...]:
    return (values,) * stages if isinstance(values, int) else tuple(values)
