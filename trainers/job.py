"""The decisions about a training, and the checks before anything is written."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from configs.dataset import DatasetDescription
from configs.errors import Fault, InputError, counted, raise_faults
from configs.files import delete_partial_files
from configs.folders import ALL, CHECKPOINTS, FoldFolder, ModelFolder
from configs.network import NetworkConfig
from configs.plan import ModelPlan, NetworkPlan
from configs.training import TrainingConfig, load_training_config
from preprocessing.dataset.fold_record import raise_if_moved, record_split, recorded_split, warn_without_record
from preprocessing.dataset.splits import Split, choose_split
from preprocessing.store import CaseStore
from trainers.data.previous_stage import PreviousStage
from trainers.optimisation.checkpoint import epochs_done

_CHANGEABLE = {"workers", "loggers", "compile"}  # affect only speed and logging
_CHANGEABLE_ON_RESUME = {*_CHANGEABLE, "epochs"}  # the learning rate follows the new schedule from the next step


def resolve_config(model: ModelFolder, preset: str | None, overrides: Mapping[str, Any], resume: bool) -> TrainingConfig:
    """Return the settings of a run: the preset's, or on `resume` without a preset the recorded ones, with overrides.

    Raises:
        InputError: a preset or setting is unknown.
    """
    if resume and preset is None and model.settings.is_file():
        return load_training_config(str(model.settings), dict(overrides))
    return load_training_config(preset or "default", dict(overrides))


def adapt_plan(planned: NetworkPlan, config: TrainingConfig) -> NetworkPlan:
    """Return the network plan as it will be trained, with the changes by the settings.

    Features of all stages change in proportion to the first. Without mirroring in training there is none in prediction.
    """
    first = planned.network.features[0]
    base = config.base_features or first
    network = NetworkConfig.model_validate(
        planned.network.model_dump()
        | {
            "features": tuple(max(1, round(features * base / first)) for features in planned.network.features),
            "deep_supervision": planned.network.deep_supervision and config.deep_supervision,
            "checkpointing": planned.network.checkpointing if config.checkpointing is None else config.checkpointing,
        }
    )
    changes = {
        "network": network,
        "batch_size": config.batch_size or planned.batch_size,
        "mirror_axes": planned.mirror_axes if config.mirror else (),
        "network_class": config.network_class,
    }
    return planned.model_copy(update=changes)


def check_label_weights(config: TrainingConfig, description: DatasetDescription) -> None:
    """Raise `InputError` that lists the weights of labels which the dataset lacks."""
    labels = ", ".join(description.foreground)
    stated = {"class_weights": (config.class_weights, "centre patches on"), "loss_weights": (config.loss_weights, "weigh")}
    raise_faults(
        Fault(f"setting `{setting}`", f"the dataset has no label `{name}` to {purpose}", f"Choose among {labels}")
        for setting, (weights, purpose) in stated.items()
        for name in weights
        if name not in description.foreground
    )


def check_settings(fold: FoldFolder, config: TrainingConfig, changes: Sequence[str], resume: bool) -> None:
    """Check that settings and plan, with these `changes` of the recorded plan, are those that the model was already trained with.

    Raises:
        InputError: settings differ; all of them are listed.
    """
    trained = [other.name for other in fold.model.folds() if other != fold and other.is_started]
    goes_on = resume and fold.checkpoint.is_file()
    model = fold.model
    if not model.settings.is_file() or not (trained or goes_on):
        return
    where, remedy = _conflict(model, trained, goes_on)
    recorded = load_training_config(str(model.settings)).model_dump()
    free = _CHANGEABLE_ON_RESUME if goes_on else _CHANGEABLE
    faults = [
        Fault(f"setting `{name}`", f"{value} differs from {recorded[name]}, which {where} used", remedy)
        for name, value in config.model_dump().items()
        if name not in free and value != recorded[name]
    ]
    if changes and not faults:
        problem = f"the dataset's plan differs from the one that {where} used: {'; '.join(changes)}"
        faults.append(Fault(str(model.plan), problem, remedy))
    raise_faults(faults)


def _conflict(model: ModelFolder, trained: list[str], goes_on: bool) -> tuple[str, str]:
    if goes_on:
        return "the training so far", "Resume with the same settings, or use --restart"
    remedy = f"Use the same settings, choose another --tag, or delete {model.path}"
    return f"fold {', '.join(trained)} of this model", remedy


@dataclass(frozen=True)
class Job:
    """One fold of one model to be trained."""

    fold: FoldFolder  # folder of the fold
    split: Split  # cases of the fold
    plan: ModelPlan  # plan of the model as it will be trained
    config: TrainingConfig  # training settings
    device: torch.device  # device of the network
    resume_hint: str  # hint shown after an interruption

    @property
    def previous(self) -> PreviousStage | None:
        """Segmentations by the first network of a cascade; None in other configurations."""
        if self.plan.configuration.previous is None:
            return None
        folder = self.fold.model.dataset.prepared(f"{self.fold.model.path.name}_previous")
        return PreviousStage(folder, self.plan.dataset.cascade_channels)

    @property
    def store(self) -> CaseStore:
        """Store of the prepared cases."""
        return CaseStore(self.fold.model.dataset.prepared(self.plan))


def split_of(folder: FoldFolder, fold: int | str, plan: ModelPlan, group_by: Path | None, goes_on: bool) -> Split:
    """Return the cases of a fold: the recorded ones if its training goes on or is validated, otherwise those of the file of splits.

    `choose_split` writes that file where it is missing, with the groups of the file `group_by` together.

    Raises:
        InputError: as `choose_split`, or the present splits or cases are not those with which the fold was trained.
    """
    splits, prepared = folder.model.dataset.splits, CaseStore(folder.model.dataset.prepared(plan)).identifiers()
    goes_on = goes_on and folder.is_started
    recorded = recorded_split(folder) if goes_on else None
    if recorded is None:
        if goes_on:
            warn_without_record(folder)
        return choose_split(splits, fold, prepared, group_by)
    if fold == ALL or splits.is_file():
        raise_if_moved(folder, recorded, choose_split(splits, fold, prepared, group_by))
    missing = sorted({*recorded.training, *recorded.validation} - set(prepared))
    raise_faults(Fault(f"case `{case}`", f"{folder} was trained with it, but it is not prepared", _PREPARE) for case in missing)
    return recorded


_PREPARE = "Run se_plan_and_preprocess with this case again"


def check_annotated(job: Job) -> None:
    """Raise `InputError` where no training case has the annotation of some label: all background may be this label then."""
    description = job.plan.dataset
    if not description.annotated:
        return
    stated = [job.store.read(case).properties.annotated for case in job.split.training]
    learned = {name for names in stated for name in (description.foreground if names is None else names)}
    remedy = f"Move a case that has it into `train` in {job.fold.model.dataset.splits}"
    raise_faults(
        Fault(f"fold {job.fold.name}", f"none of its training cases has the annotation of {name}", remedy)
        for name in description.foreground
        if name not in learned
    )


def prepare_fold(job: Job, resume: bool, restart: bool) -> None:
    """Check that no trained weights would be lost, then write the model's plan and settings.

    Raises:
        InputError: the fold was already trained and neither `resume` nor `restart` is given, or its settings differ.
    """
    folder, model = job.fold, job.fold.model
    if resume and restart:
        raise InputError(Fault("--resume and --restart", "they contradict each other", "Use only one of them"))
    if folder.is_started and not (resume or restart):
        finished = folder.final_weights.is_file()
        state = (
            "a finished training"
            if finished
            else f"an unfinished training after {counted(epochs_done(folder.checkpoint), 'epoch')}"
        )
        remedy = f"Continue with --resume{' and more --epochs' * finished}, delete it with --restart, or choose another --tag"
        raise InputError(Fault(str(folder.path), f"the folder contains {state}", remedy))
    if resume and folder.final_weights.is_file() and not folder.checkpoint.is_file():
        problem = f"{folder.checkpoint.name} is missing beside the final weights, so the training cannot be resumed"
        raise InputError(Fault(str(folder.path), problem, "Validate the weights with --validate-only, or use --restart"))
    changes = ModelPlan.read(model.plan).changes_to(job.plan) if model.plan.is_file() else []
    check_settings(folder, job.config, changes, resume)
    if restart:
        delete_training(folder)
    delete_partial_files(folder.path, folder.validation.path)
    job.plan.write(model.plan)
    job.config.write(model.settings)
    if not folder.is_started:
        record_split(folder, job.split)


def delete_training(folder: FoldFolder) -> None:
    """Delete what a training wrote into a fold's folder; other files stay."""
    records = folder.records
    weights = [folder.weights(checkpoint) for checkpoint in CHECKPOINTS]
    for file in (*weights, folder.checkpoint, folder.split, records.log, records.picture, records.preview):
        file.unlink(missing_ok=True)
    if folder.validation.path.is_dir():
        shutil.rmtree(folder.validation.path)


def require_weights(folder: FoldFolder) -> None:
    """Raise `InputError` if the fold has not been trained completely."""
    if not folder.final_weights.is_file():
        raise InputError(Fault(str(folder.path), f"{folder.final_weights.name} is missing", "Finish training the fold first"))
