"""Weights to start from: those of another model, of ours or nnU-Net's, as far as its layers fit."""

import logging
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from configs.errors import Fault, InputError
from configs.folders import FoldFolder, ModelFolder
from se_unet.nnunet import read_nnunet_checkpoint

logger = logging.getLogger(__name__)
_MOST_NAMED = 20

_NNUNET = "checkpoint_final.pth"  # nnU-Net's weights at the end of a training


@dataclass(frozen=True)
class Transfer:
    """What was taken from another model.

    Attributes:
        taken: names of the network's tensors that were.
        misshapen: those whose shape differs there.
        missing: those that are not there.
        unused: names of tensors there that the network has not.
    """

    taken: tuple[str, ...]
    misshapen: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]

    def summary(self) -> str:
        """Lines of text that name every layer that keeps its fresh weights."""
        lines = [f"{len(self.taken)} of {len(self.taken) + len(self.misshapen) + len(self.missing)} tensors taken"]
        for kind, names in (("other shape there", self.misshapen), ("not there", self.missing), ("unused there", self.unused)):
            if names:
                more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
                lines.append(f"  {kind}: {', '.join(names[:_MOST_NAMED])}{more}")
        return "\n".join(lines)


def find_weights(source: str) -> Path:
    """The file that a source names.

    Args:
        source: a `.safetensors` or nnU-Net's `.pth` file, a fold's folder, or the folder of a model with one trained fold (of several, the
            fold must be named).

    Raises:
        InputError: there is none, or several.
    """
    path = Path(source)
    where, remedy = (
        f"--init-weights {source}",
        f"Give a model's or a fold's folder, a .safetensors file, or nnU-Net's {_NNUNET}",
    )
    if path.is_file():
        return path
    folders = [FoldFolder(path), *ModelFolder(path).folds()]
    found = [folder.final_weights for folder in folders if folder.final_weights.is_file()]
    found = found or [folder.path / _NNUNET for folder in folders if (folder.path / _NNUNET).is_file()]
    if not found:
        raise InputError(Fault(where, "there are no weights", remedy))
    if len(found) > 1:
        folds = ", ".join(str(file.parent) for file in found)
        raise InputError(Fault(where, f"it holds several folds ({folds})", "Give the folder of one of them"))
    return found[0]


def initialise(network: nn.Module, source: str) -> Transfer:
    """Take the weights whose name and shape fit into the network, and report the others by name.

    Raises:
        InputError: there are no weights, they cannot be read, or none fits.
    """
    path = find_weights(source)
    tensors = _read(path)
    own = network.state_dict()
    fitting = {name: tensor for name, tensor in tensors.items() if name in own and own[name].shape == tensor.shape}
    transfer = Transfer(
        taken=tuple(fitting),
        misshapen=tuple(name for name in own if name in tensors and name not in fitting),
        missing=tuple(name for name in own if name not in tensors),
        unused=tuple(name for name in tensors if name not in own),
    )
    if not fitting:
        problem = f"none of its {len(tensors)} tensors fits this network"
        raise InputError(Fault(f"--init-weights {source}", problem, "Give weights of the same kind of network"))
    network.load_state_dict(fitting, strict=False)
    logger.info("weights of %s: %s", path, transfer.summary())
    return transfer


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".pth":
        return read_nnunet_checkpoint(path).our_weights()
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(Fault(str(path), f"no readable weights ({error})", "Check the path, or train the fold")) from error
