"""Read nnU-Net checkpoints: the description and the renamed weights of a PlainConvUNet or ResidualEncoderUNet."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from configs.errors import Fault, InputError
from configs.network import NetworkConfig
from se_unet.nnunet.architecture import network_of, settings_of
from se_unet.nnunet.weights import STEM, rename, unwrapped
from se_unet.weights import load_restricted

_SCALAR = np.float64(0).__reduce__()[0]  # constructor of NumPy scalars, whose module differs between NumPy versions


@dataclass(frozen=True)
class NNUNetCheckpoint:
    """Content of a checkpoint that describes the network.

    Attributes:
        path: path of the checkpoint file.
        weights: nnU-Net's state dictionary, `unwrapped`.
        plans: content of nnU-Net's plan.
        configuration: name of the configuration, such as `3d_fullres`.
        trainer: name of the class that trained it.
        dataset: content of nnU-Net's `dataset.json`.
        mirror_axes: spatial axes that were mirrored in training, or None.
    """

    path: Path
    weights: Mapping[str, Tensor]
    plans: Mapping[str, Any]
    configuration: str
    trainer: str
    dataset: Mapping[str, Any]
    mirror_axes: tuple[int, ...] | None

    @property
    def settings(self) -> dict[str, Any]:
        """nnU-Net's plan of the configuration, including the settings that it inherits from others."""
        return settings_of(self.plans, self.configuration)

    @property
    def network(self) -> NetworkConfig:
        """Description of the network.

        Raises:
            InputError: the family `plain` has no such network.
        """
        inputs, outputs = self.weights[self._stem].shape[1], self.weights[self._head].shape[0]
        return network_of(self.settings, int(inputs), int(outputs))

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

    @property
    def _stem(self) -> str:
        first = (name for name in self.weights if re.fullmatch(STEM, name))
        found = next(first, None)
        if found is None:
            raise InputError(Fault(str(self.path), "the network has no first convolution", "Give a checkpoint of a U-Net"))
        return found


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
            weights=unwrapped(content["network_weights"]),
            plans=arguments["plans"],
            configuration=arguments["configuration"],
            trainer=str(content.get("trainer_name", "")),
            dataset=arguments["dataset_json"],
            mirror_axes=None if axes is None else tuple(int(axis) for axis in axes),
        )
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        problem = f"the file is not a checkpoint of nnU-Net 2 ({type(error).__name__}: {error})"
        raise InputError(Fault(str(path), problem, "Give a file such as checkpoint_final.pth")) from error


def _numpy_scalars() -> list[Any]:
    """Return the constructor and the types of NumPy scalars, the constructor under its old and its new name."""
    types = [type(np.dtype(kind)) for kind in ("float64", "float32", "float16", "int64", "int32", "int16", "uint8", "bool")]
    return [_SCALAR, (_SCALAR, "numpy.core.multiarray.scalar"), (_SCALAR, "numpy._core.multiarray.scalar"), np.dtype, *types]
