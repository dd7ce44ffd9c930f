"""A checkpoint of nnU-Net, read without unpickling anything that could run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from configs.errors import Fault, InputError
from configs.network import NetworkConfig
from se_unet import nnunet
from se_unet.restricted import load_restricted

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
        return nnunet.describe(settings["architecture"], inputs, int(outputs), (z, y, x))

    def our_weights(self) -> dict[str, Tensor]:
        """The weights under our names, for `se_unet.build_network(checkpoint.network)`.

        Raises:
            InputError: see `network`; or there are weights of other parts.
        """
        return nnunet.rename(self.weights, self.network)

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
