"""What a model's folder tells of it: plan, settings, logs, scores, curves. What is missing or cannot be read is left out and told."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pandas as pd

from configs.dataset import DatasetDescription
from configs.errors import Fault, InputError, fault_of, is_of_system
from configs.files import list_folder
from configs.plan import ConfigurationPlan, NetworkPlan, Plan
from configs.training import TrainingConfig
from inference.evaluation.robustness import RobustnessResult
from inference.evaluation.scores import EvaluationResult, LabelScores
from inference.model import Model, read_plan

ALL = "all"  # the fold that trains on every case, and validates on cases that it knows
ROBUSTNESS = "scale_robustness.json"

T = TypeVar("T")


@dataclass(frozen=True)
class Fold:
    """One trained fold.

    Attributes:
        name: such as `0`.
        log: one row for each epoch, columns as in log.csv; empty where there is none.
        result: scores of its validation cases, or None.
    """

    name: str
    log: pd.DataFrame
    result: EvaluationResult | None


@dataclass(frozen=True)
class Planned:
    """The plan of one configuration with one network, by parts."""

    plan: Plan

    @property
    def dataset(self) -> DatasetDescription:
        """Channels and labels."""
        return self.plan.dataset

    @property
    def configuration_name(self) -> str:
        """Such as `3d_fullres`."""
        return next(iter(self.plan.configurations))

    @property
    def configuration(self) -> ConfigurationPlan:
        """How images are prepared."""
        return Model(self.plan, {}).configuration

    @property
    def network_name(self) -> str:
        """Such as `se`."""
        return next(iter(self.configuration.networks))

    @property
    def network(self) -> NetworkPlan:
        """The network with its patch."""
        return Model(self.plan, {}).network_plan


@dataclass(frozen=True)
class Scores:
    """What validation found, over all folds.

    Attributes:
        folds: those whose scores count: the fold `all` only where there is no other.
        cases: case -> label -> scores.
        fold_of: case -> the fold that validated it.
    """

    folds: dict[str, EvaluationResult]
    cases: dict[str, dict[str, LabelScores]]
    fold_of: dict[str, str]

    @property
    def are_of_training_cases(self) -> bool:
        """Whether the only scores are of cases that the network was trained on."""
        return list(self.folds) == [ALL]


@dataclass(frozen=True)
class TrainedModel:
    """A model as it lies on disk.

    Attributes:
        folder: of the model.
        planned: its plan.
        training: settings, or None.
        folds: those with a log, scores or weights.
        robustness: what `se_evaluate -m MODEL --scales` wrote, or None.
        notes: what could not be read.
    """

    folder: Path
    planned: Planned
    training: TrainingConfig | None
    folds: tuple[Fold, ...]
    robustness: RobustnessResult | None
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of the folder."""
        return self.folder.resolve().name

    @property
    def scores(self) -> Scores:
        """Of all folds together."""
        found = {fold.name: fold.result for fold in self.folds if fold.result is not None}
        counted = {name: result for name, result in found.items() if name != ALL} or found
        cases = {case: scores for result in counted.values() for case, scores in result.cases.items()}
        return Scores(counted, cases, {case: name for name, result in counted.items() for case in result.cases})


def read_trained(folder: Path) -> TrainedModel:
    """Everything in a model's folder.

    Raises:
        InputError: it is no model's folder, or its plan cannot be read, or the system cannot read something that is there.
    """
    if not (folder / "plan.json").is_file():
        remedy = "Give a model's folder, such as se_work/DATASET/models/3d_fullres_se, or the folder above"
        raise InputError(Fault(str(folder), "it is no model's folder: it holds no plan.json", remedy))
    plan = read_plan(folder / "plan.json")
    notes: list[str] = []
    found = sorted(list_folder(folder, "fold_*"), key=lambda path: (len(path.name), path.name))
    folds = [_read_fold(path, notes) for path in found if path.is_dir()]
    return TrainedModel(
        folder=folder,
        planned=Planned(plan),
        training=_read(folder / "training.json", TrainingConfig.read, notes),
        folds=tuple(fold for fold in folds if fold is not None),
        robustness=_read(folder / ROBUSTNESS, RobustnessResult.read, notes),
        notes=tuple(notes),
    )


def _read_fold(path: Path, notes: list[str]) -> Fold | None:
    log = _read(path / "log.csv", _read_log, notes)
    result = _read(path / "validation" / "metrics.json", EvaluationResult.read, notes)
    if log is None and result is None and not list_folder(path, "weights_*.safetensors"):
        return None
    return Fold(path.name.removeprefix("fold_"), pd.DataFrame() if log is None else log, result)


def _read_log(path: Path) -> pd.DataFrame:
    try:
        log = pd.read_csv(path)
    except (ValueError, OSError) as error:  # pandas' errors of parsing are ValueErrors
        raise InputError(fault_of(error, str(path), f"it is no table ({error})", "Train the fold again")) from error
    if "epoch" not in log or not all(pd.api.types.is_numeric_dtype(log[column]) for column in log):
        raise InputError(Fault(str(path), "it is no log of a training", "Train the fold again"))
    return log


def _read(path: Path, read: Callable[[Path], T], notes: list[str]) -> T | None:
    """What a file holds; None where it is not there, and a note where it cannot be read."""
    if not path.is_file():
        return None
    try:
        return read(path)
    except InputError as error:
        if is_of_system(error):
            raise
        notes += [str(fault) for fault in error.faults]
        return None
