"""Install trained models of nnU-Net as model folders."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from configs.errors import Fault, InputError, raise_faults
from configs.folders import ALL, DATASET, ModelFolder
from configs.plan import ModelPlan
from configs.progress import Progress, Silent, ticking
from inference.bundle.new_folder import new_folder, target_faults
from inference.bundle.nnunet.plan import plan_of
from inference.bundle.nnunet.postprocessing import read_postprocessing
from inference.bundle.nnunet.source import DATASET as THEIR_DATASET
from inference.bundle.nnunet.source import KINDS, PLANS, REMEDY, NNUNetModel, find_nnunet_models
from inference.bundle.nnunet.trainers import trainer_fault
from inference.bundle.tensors import implausible
from inference.prediction.selection import ALONE, FILE, Selection
from se_unet.builder import build_network
from se_unet.nnunet.checkpoint import NNUNetCheckpoint, read_nnunet_checkpoint
from se_unet.nnunet.plan import NETWORK
from se_unet.weights import save_weights

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Imported:
    """One model that was imported."""

    folder: Path  # model folder
    plan: ModelPlan
    folds: tuple[str, ...]
    selection: Path | None  # file with the postprocessing that nnU-Net chose, for `se_predict --selection`


def import_nnunet(
    path: str | Path, folder: str | Path, trust_trainer: bool = False, progress: Progress | None = None
) -> list[Imported]:
    """Import the trained models in a folder of nnU-Net's results or in the ZIP file of its export, all of them or none.

    Weights are read by PyTorch's restricted unpickler, so that no code in the files runs. A cascade needs its first stage: with the folder
    of the second stage alone, the first is taken from beside it.

    Args:
        path: folder of a model, of a dataset's results, or of all results of one dataset; or a ZIP file.
        folder: new folder. One model becomes this folder; several become folders in it, such as `3d_fullres_nnunet`.
        trust_trainer: whether to accept trainers by names that this software does not know.
        progress: progress display over the checkpoints.

    Raises:
        InputError: the folder exists, there is no model, or one cannot be used.
    """
    path, folder = Path(path), Path(folder)
    raise_faults(target_faults(folder))
    readers = _with_first_stages([_Reader(model, trust_trainer) for model in find_nnunet_models(path)], trust_trainer)
    raise_faults(_name_faults(path, [reader.configuration for reader in readers]))
    count = sum(len(reader.model.checkpoints) for reader in readers)
    is_alone = len(readers) == 1
    with new_folder(folder) as temporary, ticking(progress or Silent(), "Checkpoints", count) as tick:
        return [
            replace(made, folder=folder / made.folder.relative_to(temporary), selection=_moved(made.selection, temporary, folder))
            for made in [_install(reader, temporary if is_alone else temporary / reader.name, tick) for reader in readers]
        ]


def _moved(path: Path | None, temporary: Path, folder: Path) -> Path | None:
    return None if path is None else folder / path.relative_to(temporary)


class _Reader:
    """Reads the checkpoints of one model."""

    def __init__(self, model: NNUNetModel, trust_trainer: bool):
        self.model = model
        self.plans, self.dataset = model.json(PLANS), model.json(THEIR_DATASET)
        first = self._read(next(iter(model.checkpoints.values())))
        fault = None if trust_trainer else trainer_fault(model.where, first.trainer)
        raise_faults([] if fault is None else [fault])
        self.configuration = first.configuration
        self.plan = ModelPlan(plan_of(first, model.where))

    @property
    def name(self) -> str:
        """Name of the model's folder, where there are several."""
        return f"{self.configuration}_{NETWORK}"

    @property
    def previous(self) -> str | None:
        """Configuration of a cascade's first stage."""
        return self.plan.configuration.previous

    def weights(self) -> Iterator[tuple[str, str, dict[str, Tensor]]]:
        """Yield fold, kind and weights of each checkpoint, which all have this network.

        Raises:
            InputError: a checkpoint cannot be read, is of another model, or holds numbers that are not finite.
        """
        for (fold, kind), name in self.model.checkpoints.items():
            checkpoint = self._read(name)
            where = f"{self.model.where}: fold_{fold}/checkpoint_{kind}.pth"
            plan = plan_of(checkpoint, self.model.where)
            if checkpoint.configuration != self.configuration or plan.configurations != self.plan.whole.configurations:
                raise InputError(Fault(where, "the checkpoint is of another model than those of the other folds", REMEDY))
            weights = checkpoint.our_weights()
            raise_faults(_weights_faults(where, self.plan, weights))
            yield fold, kind, weights

    def _read(self, name: str) -> NNUNetCheckpoint:
        """Return a checkpoint with the plans and the dataset of the model's folder, which nnU-Net predicts with."""
        with self.model.source.checkpoint(name) as file:
            try:
                checkpoint = read_nnunet_checkpoint(file)
            except InputError as error:
                raise InputError(*(Fault(f"{self.model.where}: {name}", one.problem, REMEDY) for one in error.faults)) from error
        return replace(checkpoint, path=Path(name), plans=self.plans, dataset=self.dataset)


def _with_first_stages(readers: Sequence[_Reader], trust_trainer: bool) -> list[_Reader]:
    """Add the first stages of cascades from beside them.

    Raises:
        InputError: the first stage of a cascade is missing.
    """
    found = list(readers)
    for reader in readers:
        if reader.previous is None or reader.previous in [one.configuration for one in found]:
            continue
        path = reader.model.source.path.resolve()
        beside = path.parent / path.name.replace(f"__{reader.configuration}", f"__{reader.previous}")
        if not (path.is_dir() and reader.model.place == "" and beside.is_dir() and beside != path):
            problem = f"the model is the second stage of a cascade, but its first stage `{reader.previous}` is missing"
            raise InputError(Fault(reader.model.where, problem, "Import the dataset's results, with both stages, together"))
        found += [_Reader(model, trust_trainer) for model in find_nnunet_models(beside)]
    return found


def _name_faults(path: Path, configurations: Sequence[str]) -> Iterator[Fault]:
    for name in sorted({one for one in configurations if configurations.count(one) > 1}):
        problem = f"there are {configurations.count(name)} models of the configuration `{name}`, by other trainers or plans"
        yield Fault(str(path), problem, "Give the folder of one of them")


def _weights_faults(where: str, plan: ModelPlan, weights: dict[str, Tensor]) -> Iterator[Fault]:
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    problem = implausible(plan.network, shapes)
    if problem is not None:
        yield Fault(where, f"the weights do not fit the plan: {problem}", REMEDY)
        return
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in build_network(plan.network.network).state_dict().items()}
    wrong = sorted(name for name in expected.keys() | shapes if expected.get(name) != shapes.get(name))
    if wrong:
        name = wrong[0]
        problem = f"`{name}` has the shape {shapes.get(name)}, but the plan's network {expected.get(name)}"
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        yield Fault(where, f"the weights do not fit the plan: {problem}{more}", REMEDY)
    broken = sum(math.prod(tensor.shape) - int(torch.isfinite(tensor).sum()) for tensor in weights.values())
    if broken:
        yield Fault(where, f"{broken} weights are not finite numbers", "Train the fold again, or leave it out")


def _install(reader: _Reader, folder: Path, tick: Callable[[], object]) -> Imported:
    """Write one model folder."""
    model, plan = ModelFolder(folder), reader.plan
    folder.mkdir(exist_ok=True)
    kinds: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for fold, kind, weights in reader.weights():
        network = build_network(plan.network.network)
        network.load_state_dict(weights)
        save_weights(network, model.fold(fold).weights(kind))
        kinds[kind].append(fold)
        tick()
    plan.write(model.plan)
    plan.dataset.write(folder / DATASET)
    if not kinds["final"]:
        _logger.warning("%s has no final checkpoint; predict with --checkpoint best", reader.model.where)
    kind = "final" if kinds["final"] else "best"
    folds = tuple(kinds[kind])
    _tell_folds(reader.model, folds, kind)
    return Imported(folder, plan, folds, _write_selection(reader, folder, reader.model.postprocessed(folds), kind))


def _tell_folds(model: NNUNetModel, folds: tuple[str, ...], kind: str) -> None:
    """Warn where predictions average other folds than the user may expect."""
    numbered = [fold for fold in folds if fold != ALL]
    for fold in model.started:
        if fold not in folds:
            _logger.warning("%s: fold %s has no checkpoint_%s.pth, so predictions leave it out", model.where, fold, kind)
    if ALL in folds and numbered:
        words = "predictions average it with the other folds; nnU-Net takes those alone, as --folds"
        _logger.warning("%s: there is a fold `%s`: %s %s does", model.where, ALL, words, " ".join(numbered))


def _write_selection(reader: _Reader, folder: Path, folds: tuple[str, ...], kind: str) -> Path | None:
    name = reader.model.postprocessing
    if name is None:
        return None
    short = name.removeprefix(reader.model.place).lstrip("/")
    rules = read_postprocessing(reader.model.json(short), reader.plan.dataset, f"{reader.model.where}: {short}")
    if not rules.largest_of:
        return None
    selection = Selection.model_validate(
        {
            "models": [ALONE],
            "folds": folds,
            "checkpoint": kind,
            "postprocessing": rules,
            "command": f"se_predict -m MODEL --folds {' '.join(folds)} --checkpoint {kind}",
            "cases": 0,
            "candidates": (),
            "gains": {},
        }
    )
    selection.write(folder / FILE)
    return folder / FILE
