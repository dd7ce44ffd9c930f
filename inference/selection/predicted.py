"""Predict candidates that training did not validate, other checkpoints and averages of models, fold by fold like se_predict."""

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from configs.dataset import DatasetDescription
from configs.files import read_json, write_json
from configs.folders import ModelFolder
from configs.plan import ModelPlan
from configs.progress import Progress
from configs.run_log import digest
from inference.evaluation.scores import LabelScores, score_case
from inference.model import find_weights
from inference.prediction.predict_files import plan_outputs, predict_cases
from inference.predictor import Predictor
from inference.selection.candidates import Candidate, CaseSource
from preprocessing.formats.images import read_labels
from preprocessing.geometry.same_grid import require_same_grid

_KEY = "weights.json"
_logger = logging.getLogger(__name__)


def predict_candidate(
    folder: Path,
    models: Sequence[Path],
    checkpoint: str,
    folds: Mapping[str, tuple[str, ...]],
    sources: Mapping[str, CaseSource],
    device: str | None,
    progress: Progress,
) -> Candidate:
    """Predict and score the validation cases of each fold with that fold's weights, averaging the models.

    Existing segmentations in `folder` are reused, but removed if they are from other weights.

    Raises:
        InputError: weights are missing, or the models cannot be averaged.
        RuntimeError: some cases cannot be predicted.
    """
    _drop_stale(folder, models, checkpoint, list(folds))
    description = ModelPlan.read(ModelFolder(models[0]).plan).dataset
    cases: dict[str, dict[str, LabelScores]] = {}
    segmentations: dict[str, Path] = {}
    for fold, names in folds.items():
        outputs = plan_outputs({case: sources[case].images for case in names}, ModelFolder(folder).fold(fold).path)
        missing = {case: sources[case].images for case in names if not outputs[case].is_file()}
        if missing:
            failures = predict_cases(
                Predictor.load(list(models), device, [fold], checkpoint), missing, outputs, progress=progress
            )
            _raise(failures)
        cases |= {case: _score(outputs[case], sources[case], description) for case in names}
        segmentations |= {case: outputs[case] for case in names}
    return Candidate(tuple(models), checkpoint, folds, cases, segmentations)


def _raise(failures: Mapping[str, Exception]) -> None:
    if failures:
        reasons = "; ".join(f"case `{case}`: {error}" for case, error in failures.items())
        raise RuntimeError(f"{len(failures)} cases cannot be predicted: {reasons}")


def _drop_stale(folder: Path, models: Sequence[Path], checkpoint: str, folds: Sequence[str]) -> None:
    """Remove segmentations that were predicted with other weights."""
    found = [(model, path) for model in models for path in find_weights(model, folds, checkpoint).values()]
    key = {str(path.relative_to(model.parent)): digest(path) for model, path in found}
    if folder.is_dir() and (not (folder / _KEY).is_file() or read_json(folder / _KEY) != key):
        _logger.info("%s has segmentations from other weights; predicting it again", folder.name)
        shutil.rmtree(folder)
    write_json(folder / _KEY, key)


def _score(segmentation: Path, source: CaseSource, description: DatasetDescription) -> dict[str, LabelScores]:
    predicted, geometry = read_labels(segmentation)
    reference, grid = read_labels(source.labels)
    require_same_grid(str(segmentation), "the prediction", geometry, grid)
    return score_case(predicted, reference, description, geometry.spacing, annotated=source.annotated)
