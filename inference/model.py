"""Load trained models: folders with a plan and the weights of one or more folds."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from configs.errors import Fault, InputError, collecting, raise_faults, tolerating
from configs.folders import ALL, CHECKPOINTS, EVERY, FoldFolder, ModelFolder
from configs.named_parts import import_part
from configs.plan import ModelPlan, NetworkPlan, refuse_nnunet
from configs.run_log import digest
from inference.sizes.calibration import Calibration
from se_unet.builder import build_network
from se_unet.weights import load_weights

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Model:
    """A trained model in memory."""

    plan: ModelPlan  # plan of the model
    networks: dict[str, nn.Module]  # network with its weights by fold name, in evaluation mode, on the CPU
    calibration: Calibration | None = None  # what validation cases tell of its expectations, or None


def load_model(
    folder: Path, folds: Sequence[int | str] | None = None, checkpoint: str = "final", network_class: str | None = None
) -> Model:
    """Load a model folder: `plan.json`, `fold_<name>/weights_<checkpoint>.safetensors`, and `calibration.json` if present.

    Folds are names such as 0 or "all"; None takes every fold that has weights. For a custom network class see `make_network`.

    Raises:
        InputError: the folder is missing, or its content is missing or unusable; all faults are listed.
    """
    if not folder.is_dir():
        raise InputError(
            Fault(str(folder), "the model folder does not exist", "Give the folder with the plan and the folds of a model")
        )
    model = ModelFolder(folder)
    refuse_nnunet(model.plan)
    faults: list[Fault] = []
    with collecting(faults):
        weights = find_weights(folder, folds, checkpoint)
    with collecting(faults):
        plan = ModelPlan.read(model.plan)
    raise_faults(faults)
    calibration = _read_calibration(model, plan, weights)
    return Model(plan, _load_networks(plan.network, weights, network_class), calibration)


def _read_calibration(model: ModelFolder, plan: ModelPlan, folds: Collection[str]) -> Calibration | None:
    """Return the calibration where there is one that was made with the weights that the folds have now, one of `folds` among them."""
    if model.former_scales.is_file():
        logger.warning(
            "%s is of an earlier version and not used; give its factors with --scales, if they are wanted", model.former_scales
        )
    if not model.calibration.is_file():
        return None
    why = "it cannot be read"
    with tolerating():  # the model works without it, and it can be made again
        calibration = Calibration.read(model.calibration)
        if calibration.labels != plan.dataset.foreground:
            why = f"it is for the labels {', '.join(calibration.labels)}"
        elif not has_weights_of(model, calibration.networks):
            why = "it was made with other weights than the folds have now"
        else:
            return calibration if any(fold in calibration.networks for fold in folds) else None
    logger.warning("%s is not used, because %s; make it again with se_evaluate -m MODEL --calibrate", model.calibration, why)
    return None


def load_models(
    folders: Sequence[Path],
    folds: Sequence[int | str] | None = None,
    checkpoint: str = "final",
    network_class: str | None = None,
) -> list[Model]:
    """Load the models of an ensemble. Arguments are as for `load_model`.

    Raises:
        InputError: a model cannot be used, or models differ in channels, labels or orientation; all faults are listed.
    """
    faults: list[Fault] = []
    models: list[Model] = []
    for folder in folders:
        with collecting(faults):
            models.append(load_model(folder, folds, checkpoint, network_class))
    raise_faults(faults)
    first = models[0].plan
    for folder, model in zip(folders, models, strict=True):
        for what in ("channels", "labels", "regions_class_order"):
            ours, theirs = getattr(model.plan.dataset, what), getattr(first.dataset, what)
            if ours != theirs:
                faults.append(Fault(str(folder), f"the {what} are {ours}, but those of {folders[0]} are {theirs}", _ALIKE))
        if model.plan.orientation != first.orientation:
            problem = f"the orientation is {model.plan.orientation}, but that of {folders[0]} is {first.orientation}"
            faults.append(Fault(str(folder), problem, _ALIKE))
    raise_faults(faults)
    return models


_ALIKE = "Models of one ensemble must be trained for the same channels and labels"


def chosen_folds(words: Sequence[str] | None, folders: Sequence[Path]) -> tuple[str, ...] | None:
    """Return the folds that the words of `--folds` name, None for every trained one.

    Args:
        words: names of folds, or `every`; None is `every`. `all` is fold `all`, as in nnU-Net and in Python. Without that fold it
            is `every`, with a warning, as it was in earlier versions.
        folders: model folders.

    Raises:
        InputError: `every` stands beside other words.
    """
    if words is None or tuple(words) == (EVERY,):
        return None
    if EVERY in words:
        raise InputError(Fault(f"--folds {' '.join(words)}", f"`{EVERY}` already names all trained folds", "Give it alone"))
    if tuple(words) == (ALL,) and not any(has_weights(ModelFolder(folder).fold(ALL)) for folder in folders):
        logger.warning("--folds %s: fold %s is not trained, so every trained fold is taken; write --folds %s", ALL, ALL, EVERY)
        return None
    return tuple(words)


def weights_digests(folder: Path, folds: Sequence[int | str], checkpoint: str) -> dict[str, str]:
    """Return the SHA-256 of each fold's weights. Errors are as for `load_model`."""
    return {fold: digest(path) for fold, path in find_weights(folder, folds, checkpoint).items()}


def has_weights_of(model: ModelFolder, digests: Mapping[str, str]) -> bool:
    """Return whether every fold that has weights still has, at either checkpoint, those with the recorded SHA-256."""
    trained = {fold: known for fold, known in digests.items() if has_weights(model.fold(fold))}
    return all(
        known in [digest(model.fold(fold).weights(checkpoint)) for checkpoint in CHECKPOINTS] for fold, known in trained.items()
    )


def has_weights(fold: FoldFolder) -> bool:
    """Return whether a fold has weights of any checkpoint."""
    return any(fold.weights(checkpoint).is_file() for checkpoint in CHECKPOINTS)


def find_weights(folder: Path, folds: Sequence[int | str] | None, checkpoint: str) -> dict[str, Path]:
    """Return the weights file of each fold. Arguments and errors are as for `load_model`."""
    if checkpoint not in CHECKPOINTS:
        raise InputError(Fault("checkpoint", f"unknown name `{checkpoint}`", f"Choose one of {', '.join(CHECKPOINTS)}"))
    model = ModelFolder(folder)
    trained = {fold.name: fold.weights(checkpoint) for fold in model.folds() if fold.weights(checkpoint).is_file()}
    if folds is None and not trained:
        problem, remedy = f"no {checkpoint} weights", "Train a fold first, or choose the other checkpoint"
        raise InputError(Fault(str(folder), problem, remedy))
    wanted = list(trained) if folds is None else [str(fold) for fold in folds]
    problem = f"no {checkpoint} weights (folds with these: {', '.join(trained) or 'none'})"
    raise_faults(
        Fault(str(model.fold(fold).path), problem, "Train this fold or choose another") for fold in wanted if fold not in trained
    )
    return {fold: trained[fold] for fold in wanted}


def make_network(planned: NetworkPlan, network_class: str | None = None) -> nn.Module:
    """Return the planned network with fresh weights.

    `network_class` is the `package.module:Class` of a custom network, which is imported so that its code runs. The plan's entry alone does
    not suffice, since models come from others.

    Raises:
        InputError: the plan's network class was not given, or cannot be imported.
    """
    if planned.network_class is None:
        return build_network(planned.network)
    if planned.network_class != network_class:
        problem = "this model uses a custom network class; its code runs only with --network-class"
        remedy = f"If you have this code and trust it, add --network-class {planned.network_class}"
        raise InputError(Fault(f"network class `{planned.network_class}`", problem, remedy))
    network: nn.Module = import_part(planned.network_class, "network class")(planned.network)
    return network


def _load_networks(network_plan: NetworkPlan, weights: dict[str, Path], network_class: str | None) -> dict[str, nn.Module]:
    faults: list[Fault] = []
    networks = {}
    for fold, path in weights.items():
        network = make_network(network_plan, network_class)
        with collecting(faults):
            load_weights(network, path)
        networks[fold] = network.eval()
    raise_faults(faults)
    return networks
