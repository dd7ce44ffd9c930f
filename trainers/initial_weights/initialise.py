"""Initialise a network with the weights of another model, of se-unet or nnU-Net, as far as they fit or can be adapted.

Tensors are matched by name; stages count from the finest in encoder and decoder, so networks of another depth share the finest ones.
Weights of scale-equivariant kernels hold for every spacing, as their functions are wide as the plan says in mm.
"""

import logging
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from configs.dataset import BACKGROUND, DatasetDescription
from configs.errors import Fault, InputError, listed, raise_faults
from configs.folders import FoldFolder, ModelFolder
from configs.network import Axes
from configs.plan import AxisOrder, ModelPlan, Orientation
from preprocessing.dataset.description import read_description
from se_unet.nnunet.checkpoint import read_nnunet_checkpoint
from se_unet.nnunet.plan import understood
from trainers.initial_weights.adapt import Adapted, adapt_head, adapt_kernel, adapt_stem, turn_kernel

logger = logging.getLogger(__name__)
_MOST_NAMED = 6
_STEM = "encoder.0.0.0.weight"  # of the first convolution

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
    channels: int | None = None  # number of the images' channels, where it is known
    axes: Axes = (0, 1, 2)  # axes of kernels, as numbers of the image's axes (Z, Y, X)


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


def initialise(
    network: nn.Module,
    source: str,
    description: DatasetDescription | None = None,
    orientation: Orientation = "canonical",
) -> Transfer:
    """Load the weights of another model into the network as far as they fit, and report in the log what was taken, adapted and left.

    - The first convolution is adapted to other channels: its inputs are repeated and rescaled. Those for the segmentation that the second
      network of a cascade sees are no channels, and start afresh where the source has none.
    - The outputs are matched by the names of their labels, where both descriptions are known; other labels start afresh. Without names,
      outputs are taken where their number is the same.
    - Kernels of one tap along an axis become sums of three, and the other way round.
    - Kernels are turned where the images of the source have their axes in another order.

    Args:
        network: network to initialise.
        source: as for `find_initial_weights`.
        description: channels of the images, and labels of the network's outputs.
        orientation: order of axes in which the network sees images.

    Raises:
        InputError: there are no weights, they cannot be read or are not finite, or no convolution fits.
    """
    path = find_initial_weights(source)
    given, own = read_source(path), network.state_dict()
    found = _Found()
    for name, tensor in own.items():
        if name in given.tensors:
            theirs = turn_kernel(given.tensors[name], given.axes, axes_of(orientation))
            _match(found, name, _adapted(name, theirs, tensor, given, description))
    raise_faults(_useless(f"--init-weights {source}", found, given))
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


def _useless(where: str, found: _Found, given: GivenWeights) -> Iterator[Fault]:
    """Yield a fault where nothing but norms, offsets and class scores fits, or numbers are not finite."""
    if not any(tensor.ndim > 1 and not name.startswith("heads.") for name, tensor in found.fitting.items()):
        problem = f"none of the convolutions among the {len(given.tensors)} tensors fits this network"
        yield Fault(where, problem, "Give weights of the same kind of network, with as many features")
    broken = [name for name, tensor in found.fitting.items() if not tensor.isfinite().all()]
    if broken:
        yield Fault(where, f"numbers in {listed(broken, _MOST_NAMED)} are not finite", "Give other weights")


def _match(found: _Found, name: str, made: Adapted | None) -> None:
    """Add what was made of the source's tensor of this name."""
    if made is None:
        found.misshapen.append(name)
        return
    found.fitting[name], how = made
    if how:
        found.adapted[name] = how


def _adapted(
    name: str, theirs: Tensor, fresh: Tensor, source: GivenWeights, description: DatasetDescription | None
) -> Adapted | None:
    if name.startswith("heads."):
        return adapt_head(theirs, fresh, source.outputs, None if description is None else outputs_of(description))
    images = None if description is None else len(description.channels)
    if name == _STEM and (made := adapt_stem(theirs, fresh, source.channels, images)):
        return made
    return (theirs, "") if theirs.shape == fresh.shape else adapt_kernel(theirs, fresh)


def outputs_of(description: DatasetDescription) -> tuple[str, ...]:
    """Return the names of a network's outputs: the background and the labels, or the regions."""
    return description.foreground if description.has_regions else (BACKGROUND, *description.foreground)


def axes_of(orientation: Orientation) -> Axes:
    """Return the order of axes inside, as numbers of the image's axes (Z, Y, X)."""
    return orientation.axes if isinstance(orientation, AxisOrder) else (0, 1, 2)


def read_source(path: Path) -> GivenWeights:
    """Read the weights of a model, with the names of its outputs and the order of its axes where they are known: of nnU-Net, or in the
    folder of one of our folds.

    Raises:
        InputError: the file cannot be read.
    """
    if path.suffix == ".pth":
        checkpoint = read_nnunet_checkpoint(path)
        description = read_description(Path("nnU-Net"), {"file_ending": ".nii.gz", **checkpoint.dataset})
        with understood(str(path)):
            order = AxisOrder(axes=checkpoint.plans.get("transpose_forward", (0, 1, 2)))
        return GivenWeights(checkpoint.our_weights(), outputs_of(description), len(description.channels), order.axes)
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(Fault(str(path), f"weights cannot be read ({error})", _remedy(path))) from error
    folder = ModelFolder(path.resolve().parent.parent)
    if not folder.plan.is_file():
        return GivenWeights(tensors)
    plan = ModelPlan.read(folder.plan)
    return GivenWeights(tensors, outputs_of(plan.dataset), len(plan.dataset.channels), axes_of(plan.orientation))


def _remedy(path: Path) -> str:
    """Return what to do about a file that is not of weights: bundles, exports of nnU-Net and checkpoints are ZIP files."""
    if path.suffix == ".pt":
        return f"Give {FoldFolder(path.parent).final_weights}, which the end of a training writes, or the folder of the fold"
    if zipfile.is_zipfile(path):
        return f"Make a model of it first, se_bundle import {path} -o MODEL, and give MODEL or one of its folds"
    return "Check the path, or train the fold"
