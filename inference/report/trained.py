"""What a model's folder tells of it: plan, settings, logs, scores, curves. What is missing or cannot be read is left out and told."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pandas as pd

from configs.errors import Fault, InputError, fault_of, is_of_system
from configs.folders import ALL, CHECKPOINTS, FoldFolder, ModelFolder
from configs.plan import ModelPlan
from configs.training import TrainingConfig
from inference.evaluation.robustness import RobustnessResult
from inference.evaluation.scores import EvaluationResult, LabelScores

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
        plan: plan of the model.
        training: settings, or None.
        folds: those with a log, scores or weights.
        robustness: what `se_evaluate -m MODEL --scales` wrote, or None.
        notes: what could not be read.
    """

    folder: Path
    plan: ModelPlan
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
    model = ModelFolder(folder)
    if not model.plan.is_file():
        remedy = "Give a model's folder, such as se_work/DATASET/models/3d_fullres_se, or the folder above"
        raise InputError(Fault(str(folder), "not the folder of a model: it holds no plan", remedy))
    notes: list[str] = []
    folds = [_read_fold(fold, notes) for fold in model.folds()]
    return TrainedModel(
        folder=folder,
        plan=ModelPlan.read(model.plan),
        training=_read(model.settings, TrainingConfig.read, notes),
        folds=tuple(fold for fold in folds if fold is not None),
        robustness=_read(model.robustness, RobustnessResult.read, notes),
        notes=tuple(notes),
    )


def _read_fold(folder: FoldFolder, notes: list[str]) -> Fold | None:
    log = _read(folder.records.log, _read_log, notes)
    result = _read(folder.validation.metrics, EvaluationResult.read, notes)
    if log is None and result is None and not any(folder.weights(checkpoint).is_file() for checkpoint in CHECKPOINTS):
        return None
    return Fold(folder.name, pd.DataFrame() if log is None else log, result)


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
