"""nnU-Net's networks in our terms: the description of a PlainConvUNet or ResidualEncoderUNet, and their weights under our names.

With the family `plain` the skeleton computes what these networks compute; only the names of the parts differ.
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

_SCALAR = np.float64(0).__reduce__()[0]  # builds NumPy's scalars, whose place differs between NumPy's versions


@dataclass(frozen=True)
class NNUNetCheckpoint:
    """What a checkpoint says of its network.

    Attributes:
        path: of the file.
        weights: nnU-Net's state dictionary, on the CPU.
        plans: nnU-Net's plan.
        configuration: name of the configuration, such as `3d_fullres`.
        fold: that was trained.
        dataset: nnU-Net's `dataset.json`.
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
        """nnU-Net's plan of the configuration, with what it inherits from others."""
        return _inherited(self.plans["configurations"], self.configuration)

    @property
    def network(self) -> NetworkConfig:
        """The network, described in our terms.

        Raises:
            InputError: it is none that the family `plain` can be.
        """
        settings = self.settings
        spacing = [float(size) for size in settings["spacing"]]
        z, y, x = [1.0] * (3 - len(spacing)) + spacing
        inputs = len(self.dataset.get("channel_names", self.dataset.get("modality", ())))
        outputs = self.weights[self._head].shape[0]
        return describe(settings["architecture"], inputs, int(outputs), (z, y, x))

    def our_weights(self) -> dict[str, Tensor]:
        """The weights under our names, for `se_unet.build_network(checkpoint.network)`.

        Raises:
            InputError: see `network`; or there are weights of other parts.
        """
        return rename(self.weights, self.network)

    @property
    def _head(self) -> str:
        heads = [name for name in self.weights if "seg_layers" in name and name.endswith("weight")]
        if not heads:
            raise InputError(Fault(str(self.path), "its network has no segmentation layers", "Give a checkpoint of a U-Net"))
        return heads[-1]


def read_nnunet_checkpoint(path: Path) -> NNUNetCheckpoint:
    """Read `checkpoint_final.pth` or its like.

    PyTorch's restricted unpickler builds tensors, plain containers and NumPy's scalars, which nnU-Net's logs hold, and nothing else.

    Raises:
        InputError: it is no checkpoint of nnU-Net 2, is damaged, or holds something that could run.
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
        problem = f"it is no checkpoint of nnU-Net 2 ({type(error).__name__}: {error})"
        raise InputError(Fault(str(path), problem, "Give a file such as checkpoint_final.pth")) from error


def _numpy_scalars() -> list[Any]:
    """What NumPy's scalars are made of, by name."""
    types = [type(np.dtype(kind)) for kind in ("float64", "float32", "float16", "int64", "int32", "int16", "uint8", "bool")]
    return [_SCALAR, (_SCALAR, "numpy.core.multiarray.scalar"), (_SCALAR, "numpy._core.multiarray.scalar"), np.dtype, *types]


def _inherited(configurations: Mapping[str, Any], name: str) -> dict[str, Any]:
    settings = dict(configurations[name])
    parent = settings.pop("inherits_from", None)
    return {**_inherited(configurations, parent), **settings} if parent else settings


BLOCKS = {"PlainConvUNet": "plain", "ResidualEncoderUNet": "residual"}
_UNIT = {"conv": "0", "norm": "1"}
_WRAPPERS = ("module.", "_orig_mod.")  # of distributed and compiled networks
_SUPPORTED = {
    "conv_bias": True,
    "dropout_op": None,
    "nonlin": "torch.nn.LeakyReLU",
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
}


def describe(
    architecture: Mapping[str, Any], input_channels: int, output_channels: int, spacing: tuple[float, float, float]
) -> NetworkConfig:
    """The description of the network in an nnU-Net plan.

    Args:
        architecture: the plan's `architecture`: `network_class_name` and `arch_kwargs`.
        input_channels, output_channels: of the network.
        spacing: of the input in mm (Z, Y, X).

    Raises:
        InputError: a network of another kind, or parts that the family `plain` has not; all of them are listed.
    """
    kind = str(architecture.get("network_class_name", "")).rsplit(".", 1)[-1]
    if kind not in BLOCKS:
        problem = f"the network `{kind}` cannot be read"
        raise InputError(Fault("nnU-Net plan", problem, f"Networks that can be read are {', '.join(BLOCKS)}"))
    parts: Mapping[str, Any] = architecture["arch_kwargs"]
    raise_faults(
        Fault("nnU-Net plan", f"`{name}` is {parts[name]}", f"Networks that can be read have {supported}")
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
            # nnU-Net counts decoder stages from the coarsest, we from the finest
            "decoder_blocks": _per_stage(parts["n_conv_per_stage_decoder"], stages - 1)[::-1],
            "spacing": spacing,
        }
    )


def rename(state: Mapping[str, Tensor], config: NetworkConfig) -> dict[str, Tensor]:
    """The weights of an nnU-Net network under our names.

    Args:
        state: nnU-Net's state dictionary. Kernels of 2D networks get a first axis of length 1.
        config: of our network, as `describe` gives it.

    Raises:
        InputError: names that no part of such a network has; all of them are listed.
    """
    coarsest = len(config.features) - 2
    renamed: dict[str, Tensor] = {}
    faults = []
    for full_name, tensor in state.items():
        name = _unwrapped(full_name)
        if name.startswith("decoder.encoder.") or ".all_modules." in name:
            continue  # the same tensors, reached in another way
        ours = _our_name(name, coarsest)
        if ours is None:
            faults.append(Fault(f"weights `{full_name}`", "no layer of our network has this place", "Give a network of nnU-Net"))
        else:
            renamed[ours] = tensor.unsqueeze(2) if tensor.ndim == 4 else tensor
    raise_faults(faults)
    return renamed


def _our_name(theirs: str, coarsest: int) -> str | None:
    """Our name of a tensor; None where there is no such place."""
    if match := re.fullmatch(r"encoder\.stem\.convs\.0\.(conv|norm)\.(\w+)", theirs):
        return f"encoder.0.0.{_UNIT[match[1]]}.{match[2]}"
    if match := re.fullmatch(r"encoder\.stages\.(\d+)\.0\.convs\.(\d+)\.(conv|norm)\.(\w+)", theirs):
        return f"encoder.{match[1]}.{match[2]}.{_UNIT[match[3]]}.{match[4]}"
    if match := re.fullmatch(r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.(conv1|conv2|skip\.\d+)\.(conv|norm)\.(\w+)", theirs):
        index = int(match[2]) + (match[1] == "0")  # the stem comes first in our first stage
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
    """Values of two axes, or one for all, as (Z, Y, X); strides and kernels of a missing Z are 1."""
    values = [axes] * 3 if isinstance(axes, int) else [1] * (3 - len(axes)) + list(axes)
    return values[0], values[1], values[2]


def _per_stage(values: Sequence[int] | int, stages: int) -> tuple[int, ...]:
    return (values,) * stages if isinstance(values, int) else tuple(values)
