"""nnU-Net's description of a network: settings of a plan, as a `NetworkConfig` of the family `plain`.

A network of this family computes the same as a PlainConvUNet or ResidualEncoderUNet; only the names of its weights differ.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from configs.errors import Fault, InputError, raise_faults
from configs.network import Axes, NetworkConfig

BLOCKS = {"PlainConvUNet": "plain", "ResidualEncoderUNet": "residual"}
_NORM = "torch.nn.modules.instancenorm.InstanceNorm"
_SUPPORTED: dict[str, tuple[Any, ...]] = {  # values of settings that the family `plain` has
    "conv_bias": (True,),
    "conv_op": ("torch.nn.modules.conv.Conv2d", "torch.nn.modules.conv.Conv3d"),
    "norm_op": (f"{_NORM}2d", f"{_NORM}3d"),
    "norm_op_kwargs": ({"eps": 1e-5, "affine": True},),
    "dropout_op": (None,),
    "nonlin": ("torch.nn.LeakyReLU",),
    "nonlin_kwargs": ({"inplace": True}, {"inplace": False}, {}, None),
}
_DESCRIBED = {"n_stages", "features_per_stage", "kernel_sizes", "strides", "n_conv_per_stage", "n_blocks_per_stage"}
_DESCRIBED |= {"n_conv_per_stage_decoder", "dropout_op_kwargs", "deep_supervision"}  # the last two change nothing in prediction


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
    raise_faults(_unsupported(parts))
    stages, features = int(parts["n_stages"]), parts["features_per_stage"]
    if not isinstance(features, int) and len(features) != stages:
        problem = f"`n_stages` is {stages}, but there are features for {len(features)}"
        raise InputError(Fault("nnU-Net plan", problem, "Give the plan as nnU-Net wrote it"))
    return NetworkConfig.model_validate(
        {
            "family": "plain",
            "block": BLOCKS[kind],
            "input_channels": input_channels,
            "output_channels": output_channels,
            "features": _per_stage(features, stages),
            "strides": tuple(_three(strides) for strides in parts["strides"]),
            "kernels": tuple(_three(kernel) for kernel in parts["kernel_sizes"]),
            "encoder_blocks": _per_stage(parts.get("n_blocks_per_stage", parts.get("n_conv_per_stage", 2)), stages),
            # nnU-Net numbers decoder stages from the coarsest, this package from the finest
            "decoder_blocks": _per_stage(parts["n_conv_per_stage_decoder"], stages - 1)[::-1],
            "spacing": spacing,
        }
    )


def _unsupported(parts: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield a fault for each setting of an architecture that the family `plain` lacks. An unknown one might change the network."""
    for name, value in parts.items():
        supported = _SUPPORTED.get(name, (None, False))
        if name not in _DESCRIBED and value not in supported:
            words = " or ".join(map(str, supported))
            yield Fault("nnU-Net plan", f"`{name}` is {value}", f"Only networks with {words} are supported")


def network_of(settings: Mapping[str, Any], input_channels: int, output_channels: int) -> NetworkConfig:
    """Return the description of the network of a configuration, whose spacing across slices is 1 mm in 2D.

    Raises:
        InputError: as `describe`.
        KeyError, TypeError, ValueError: the configuration states no network or no spacing.
    """
    spacing = [float(size) for size in settings["spacing"]]
    z, y, x = [1.0] * (3 - len(spacing)) + spacing
    return describe(architecture_of(settings), input_channels, output_channels, (z, y, x))


def settings_of(plans: Mapping[str, Any], configuration: str) -> dict[str, Any]:
    """Return nnU-Net's plan of a configuration, including the settings that it inherits from others.

    Raises:
        KeyError, TypeError, AttributeError: the plans lack the configuration, or are not nnU-Net's.
        ValueError: configurations inherit from each other in a circle.
    """
    names: list[str] = []
    settings: dict[str, Any] = {}
    name: str | None = configuration
    while name:
        if name in names:
            raise ValueError(f"the configurations {', '.join(names)} inherit from each other")
        names.append(name)
        own = dict(plans["configurations"][name])
        name = own.pop("inherits_from", None)
        settings = {**own, **settings}
    return settings


def architecture_of(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the `architecture` of a configuration; versions of nnU-Net before 2.4 stated it in single settings.

    Raises:
        KeyError, TypeError, ValueError: the configuration states no network.
    """
    if "architecture" in settings:
        architecture: Mapping[str, Any] = settings["architecture"]
        return architecture
    blocks = [int(count) for count in settings["n_conv_per_stage_encoder"]]
    name, first, most = str(settings["UNet_class_name"]), settings["UNet_base_num_features"], settings["unet_max_num_features"]
    return {
        "network_class_name": name,
        "arch_kwargs": {
            "n_stages": len(blocks),
            "features_per_stage": [min(int(first) * 2**stage, int(most)) for stage in range(len(blocks))],
            "kernel_sizes": settings["conv_kernel_sizes"],
            "strides": settings["pool_op_kernel_sizes"],
            "n_blocks_per_stage" if name == "ResidualEncoderUNet" else "n_conv_per_stage": blocks,
            "n_conv_per_stage_decoder": settings["n_conv_per_stage_decoder"],
        },
    }


def _three(axes: Sequence[int] | int) -> Axes:
    """Return values as (Z, Y, X), from one for all axes or from two for (Y, X); Z is then 1."""
    values = [axes] * 3 if isinstance(axes, int) else [1] * (3 - len(axes)) + list(axes)
    return values[0], values[1], values[2]


def _per_stage(values: Sequence[int] | int, stages: int) -> tuple[int, ...]:
    return (values,) * stages if isinstance(values, int) else tuple(values)
