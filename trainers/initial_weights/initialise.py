"""Initialise a network with the weights of another model, of se-unet or nnU-Net, as far as they fit or can be adapted.

Tensors are matched by name; stages count from the finest in encoder and decoder, so networks of another depth share the finest ones.
Weights of scale-equivariant kernels hold for every spacing, as their functions are wide as the plan says in mm.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from configs.dataset import BACKGROUND, DatasetDescription
from configs.errors import Fault, InputError, listed
from configs.folders import FoldFolder, ModelFolder
from configs.plan import ModelPlan
from preprocessing.dataset.description import read_description
from se_unet.nnunet.checkpoint import read_nnunet_checkpoint
from trainers.initial_weights.adapt import Adapted, adapt_head, adapt_kernel, adapt_stem

logger = logging.getLogger(__name__)
_MOST_NAMED = 6

_NNUNET = "checkpoint_final.pth"  # nnU-Net's weights at the end of a training


@dataclass(frozen=True)
class Transfer:
    """Result of an initialisation, as names of tensors."""

    taken: tuple[str, ...]  # tensors of the network that are those of the source
    adapted: Mapping[str, str]  # tensors that were made from those of the source, and how
    misshapen: tuple[str, ...]  # tensors that keep fresh weights, because those of the source have another shape
    missing: tuple[str, ...]  # tensors that keep fresh weights, because the source lacks them
    unused: tuple[str, ...]  # tensors of the source that the network lacks

    def summary(self) -> str:
        """Return a table in plain text: how many tensors were taken, adapted and left, and which of the latter two."""
        total = len(self.taken) + len(self.adapted) + len(self.misshapen) + len(self.missing)
        lines = [f"{len(self.taken)} of {total} tensors taken"]
        ways: dict[str, list[str]] = {}
        for name, how in self.adapted.items():
            ways.setdefault(f"adapted, {how}", []).append(name)
        ways |= {"fresh, of another shape": [*self.misshapen], "fresh, not in the source": [*self.missing]}
        for kind, names in (ways | {"left, not in the network": [*self.unused]}).items():
            if names:
                lines.append(f"  {len(names):>4} {kind}: {listed(names, _MOST_NAMED)}")
        return "\n".join(lines)


@dataclass(frozen=True)
class GivenWeights:
    """Weights to start from."""

    tensors: Mapping[str, Tensor]
    outputs: tuple[str, ...] | None = None  # names of the outputs in order, where a description of the labels is known


@dataclass
class _Found:
    """Tensors of the source for a network, by kind."""

    fitting: dict[str, Tensor] = field(default_factory=dict)
    adapted: dict[str, str] = field(default_factory=dict)
    misshapen: list[str] = field(default_factory=list)


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


def initialise(network: nn.Module, source: str, description: DatasetDescription | None = None) -> Transfer:
    """Load the weights of another model into the network as far as they fit, and report in the log what was taken, adapted and left.

    - The first convolution is adapted to other channels: its inputs are repeated and rescaled.
    - The outputs are matched by the names of their labels, where both descriptions are known; other labels start afresh. Without names,
      outputs are taken where their number is the same.
    - Kernels of one tap along an axis become sums of three, and the other way round.

    Args:
        network: network to initialise.
        source: as for `find_initial_weights`.
        description: labels of the network's outputs.

    Raises:
        InputError: there are no weights, they cannot be read, or none fits.
    """
    path = find_initial_weights(source)
    given, own = read_source(path), network.state_dict()
    names = None if description is None else outputs_of(description)
    found = _Found()
    for name, tensor in own.items():
        if name in given.tensors:
            _match(found, name, tensor, given, names)
    if not found.fitting:
        problem = f"none of the {len(given.tensors)} tensors fits this network"
        raise InputError(Fault(f"--init-weights {source}", problem, "Give weights of the same kind of network"))
    network.load_state_dict(found.fitting, strict=False)
    transfer = Transfer(
        taken=tuple(name for name in found.fitting if name not in found.adapted),
        adapted=found.adapted,
        misshapen=tuple(found.misshapen),
        missing=tuple(name for name in own if name not in given.tensors),
        unused=tuple(name for name in given.tensors if name not in own),
    )
    logger.info("initial weights from %s: %s", path, transfer.summary())
    return transfer


def _match(found: _Found, name: str, fresh: Tensor, source: GivenWeights, names: tuple[str, ...] | None) -> None:
    """Add the source's tensor of this name, adapted where it must be."""
    made = _adapted(name, source.tensors[name], fresh, source.outputs, names)
    if made is None:
        found.misshapen.append(name)
        return
    found.fitting[name], how = made
    if how:
        found.adapted[name] = how


def _adapted(
    name: str, theirs: Tensor, fresh: Tensor, before: tuple[str, ...] | None, now: tuple[str, ...] | None
) -> Adapted | None:
    if name.startswith("heads."):
        return adapt_head(theirs, fresh, before, now)
    if theirs.shape == fresh.shape:
        return theirs, ""
    as_stem = adapt_stem(theirs, fresh) if name.startswith("encoder.0.0.") else None
    return as_stem or adapt_kernel(theirs, fresh)


def outputs_of(description: DatasetDescription) -> tuple[str, ...]:
    """Return the names of a network's outputs: the background and the labels, or the regions."""
    return description.foreground if description.has_regions else (BACKGROUND, *description.foreground)


def read_source(path: Path) -> GivenWeights:
    """Read the weights of a model, with the names of its outputs where they are known: of nnU-Net, or in the folder of one of our folds.

    Raises:
        InputError: the file cannot be read.
    """
    if path.suffix == ".pth":
        checkpoint = read_nnunet_checkpoint(path)
        description = read_description(Path("nnU-Net"), {"file_ending": ".nii.gz", **checkpoint.dataset})
        return GivenWeights(checkpoint.our_weights(), outputs_of(description))
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(Fault(str(path), f"weights cannot be read ({error})", "Check the path, or train the fold")) from error
    plan = ModelFolder(path.resolve().parent.parent).plan
    return GivenWeights(tensors, outputs_of(ModelPlan.read(plan).dataset) if plan.is_file() else None)
