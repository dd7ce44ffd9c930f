"""Read a model folder: plan, settings, logs, scores and curves. Missing or unreadable files are left out and noted."""

from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TypeVar

import pandas as pd

from configs.errors import Fault, InputError, collecting, raise_faults, tolerating
from configs.files import read_text
from configs.folders import ALL, FoldFolder, ModelFolder
from configs.plan import ModelPlan
from configs.training import TrainingConfig
from inference.evaluation.robustness import RobustnessResult
from inference.evaluation.scores import EvaluationResult, LabelScores
from inference.evaluation.validated import raise_if_seen, read_scores
from inference.model import has_weights, has_weights_of
from inference.sizes.calibration import Calibration

T = TypeVar("T")
Measurement = TypeVar("Measurement", RobustnessResult, Calibration)


@dataclass(frozen=True)
class Fold:
    """One trained fold."""

    name: str  # name of the fold, such as `0`
    log: pd.DataFrame  # one row per epoch with the columns of log.csv; empty without a log
    result: EvaluationResult | None  # scores of its validation cases, or None


@dataclass(frozen=True)
class Scores:
    """Validation scores over all folds."""

    folds: dict[str, EvaluationResult]  # results that count, by fold; fold `all` counts only if it is the only one
    cases: dict[str, dict[str, LabelScores]]  # scores by case and label
    fold_of: dict[str, str]  # fold that validated each case

    @property
    def are_of_training_cases(self) -> bool:
        """Whether all scores are from cases that the network was trained on."""
        return list(self.folds) == [ALL]


@dataclass(frozen=True)
class TrainedModel:
    """A model folder in memory."""

    folder: Path  # path to the model folder
    plan: ModelPlan  # plan of the model
    training: TrainingConfig | None  # training settings, or None
    folds: tuple[Fold, ...]  # folds with a log, scores or weights
    robustness: RobustnessResult | None  # result of `se_evaluate -m MODEL --scales`, or None
    calibration: Calibration | None  # what validation cases tell of the expected Dice, or None
    notes: tuple[str, ...]  # messages about files that cannot be read

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.resolve().name

    @property
    def scores(self) -> Scores:
        """Scores of all folds together."""
        found = {fold.name: fold.result for fold in self.folds if fold.result is not None}
        counted = {name: result for name, result in found.items() if name != ALL} or found
        cases = {case: scores for result in counted.values() for case, scores in result.cases.items()}
        return Scores(counted, cases, {case: name for name, result in counted.items() for case in result.cases})


def read_trained(folder: Path) -> TrainedModel:
    """Read a model folder.

    Raises:
        InputError: it is not a model folder, its plan cannot be read, the system cannot read an existing file, or folds were trained with
            other splits than the present ones.
    """
    model = ModelFolder(folder)
    if not model.plan.is_file():
        remedy = "Give a model folder such as se_work/DATASET/models/3d_fullres_se, or its parent folder"
        raise InputError(Fault(str(folder), f"not a model folder: {model.plan.name} is missing", remedy))
    notes: list[str] = []
    folds, faults = list[Fold | None](), list[Fault]()
    for fold in model.folds():
        with collecting(faults):
            folds.append(_read_fold(fold, notes))
    raise_faults(faults)
    return TrainedModel(
        folder=folder,
        plan=ModelPlan.read(model.plan),
        training=_read(model.settings, TrainingConfig.read, notes),
        folds=tuple(fold for fold in folds if fold is not None),
        robustness=_read(model.robustness, lambda path: _read_measured(model, path, RobustnessResult, "--scales"), notes),
        calibration=_read(model.calibration, lambda path: _read_measured(model, path, Calibration, "--calibrate"), notes),
        notes=tuple(notes),
    )


def _read_fold(folder: FoldFolder, notes: list[str]) -> Fold | None:
    log = _read(folder.records.log, _read_log, notes)
    result = _read(folder.validation.metrics, lambda _: read_scores(folder), notes)
    if result is not None:
        raise_if_seen(folder, result.cases)
    if log is None and result is None and not has_weights(folder):
        return None
    return Fold(folder.name, pd.DataFrame() if log is None else log, result)


def _read_measured(model: ModelFolder, path: Path, kind: type[Measurement], option: str) -> Measurement:
    """Read what se_evaluate measured; raises `InputError` where that was with other weights."""
    result = kind.read(path)
    if not has_weights_of(model, result.networks):
        problem = "it was measured with other weights than the folds have now"
        raise InputError(Fault(str(path), problem, f"Measure it again with se_evaluate -m MODEL {option}"))
    return result


def _read_log(path: Path) -> pd.DataFrame:
    try:
        log = pd.read_csv(StringIO(read_text(path)))
    except InputError:
        raise
    except ValueError as error:  # pandas' parsing errors are ValueErrors
        raise InputError(Fault(str(path), f"not a table ({error})", "Train the fold again")) from error
    if "epoch" not in log or not all(pd.api.types.is_numeric_dtype(log[column]) for column in log):
        raise InputError(Fault(str(path), "not a training log", "Train the fold again"))
    return log


def _read(path: Path, read: Callable[[Path], T], notes: list[str]) -> T | None:
    """Read a file. Return None if it is missing, or if it cannot be read, which is noted."""
    if not path.is_file():
        return None
    with tolerating() as faults:
        return read(path)
    notes += map(str, faults)
    return None
