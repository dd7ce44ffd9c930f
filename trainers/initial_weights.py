"""Initialise a network with the fitting weights of another model, of se-unet or nnU-Net."""

import logging
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from configs.errors import Fault, InputError
from configs.folders import FoldFolder, ModelFolder
from se_unet.nnunet.checkpoint import read_nnunet_checkpoint

logger = logging.getLogger(__name__)
_MOST_NAMED = 20

_NNUNET = "checkpoint_final.pth"  # nnU-Net's weights at the end of a training


@dataclass(frozen=True)
class Transfer:
    """Result of an initialisation, as names of tensors."""

    taken: tuple[str, ...]  # tensors of the network that were taken from the source
    misshapen: tuple[str, ...]  # tensors of the network with another shape in the source
    missing: tuple[str, ...]  # tensors of the network that are missing from the source
    unused: tuple[str, ...]  # tensors of the source that the network lacks

    def summary(self) -> str:
        """Return lines of text that name the tensors which keep their fresh weights."""
        lines = [f"{len(self.taken)} of {len(self.taken) + len(self.misshapen) + len(self.missing)} tensors loaded"]
        for kind, names in (("different shape", self.misshapen), ("missing", self.missing), ("unused", self.unused)):
            if names:
                more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
                lines.append(f"  {kind}: {', '.join(names[:_MOST_NAMED])}{more}")
        return "\n".join(lines)


def find_initial_weights(source: str) -> Path:
    """Find the weights file of a source.

    Args:
        source: a `.safetensors` file, nnU-Net's `.pth` file, a fold's folder, or the folder of a model with one trained fold.

    Raises:
        InputError: no weights are found, or those of several folds.
    """
    path = Path(source)
    where, remedy = (
        f"--init-weights {source}",
        f"Give the folder of a model or fold, a .safetensors file, or nnU-Net's {_NNUNET}",
    )
    if path.is_file():
        return path
    folders = [FoldFolder(path), *ModelFolder(path).folds()]
    found = [folder.final_weights for folder in folders if folder.final_weights.is_file()]
    found = found or [folder.path / _NNUNET for folder in folders if (folder.path / _NNUNET).is_file()]
    if not found:
        raise InputError(Fault(where, "no weights found", remedy))
    if len(found) > 1:
        folds = ", ".join(str(file.parent) for file in found)
        raise InputError(Fault(where, f"the folder has several folds ({folds})", "Give the folder of one of them"))
    return found[0]


def initialise(network: nn.Module, source: str) -> Transfer:
    """Load the weights whose name and shape fit into the network, and report the others by name.

    Raises:
        InputError: there are no weights, they cannot be read, or none fits.
    """
    path = find_initial_weights(source)
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
        problem = f"none of the {len(tensors)} tensors fits this network"
        raise InputError(Fault(f"--init-weights {source}", problem, "Give weights of the same kind of network"))
    network.load_state_dict(fitting, strict=False)
    logger.info("initial weights from %s: %s", path, transfer.summary())
    return transfer


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".pth":
        return read_nnunet_checkpoint(path).our_weights()
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(Fault(str(path), f"weights cannot be read ({error})", "Check the path, or train the fold")) from error
