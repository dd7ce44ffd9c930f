"""Compare a folder of predictions with a folder of references."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from configs.dataset import DatasetDescription
from configs.errors import Fault, InputError, collecting, raise_faults, tolerating
from configs.folders import validated_fold
from configs.progress import Progress, Silent
from inference.evaluation.label_files import find_description, list_label_files
from inference.evaluation.scores import EvaluationResult, LabelScores, Unmatched, score_case, summarise
from preprocessing.dataset.annotated import annotated_beside
from preprocessing.dataset.by_products import without_by_products
from preprocessing.dataset.labels import unknown_values, unknown_values_fault
from preprocessing.formats.images import read_labels
from preprocessing.geometry.same_grid import geometry_faults
from preprocessing.parallel.for_each_case import for_each_case


@dataclass(frozen=True)
class _Pair:
    predicted: Path
    reference: Path
    annotated: tuple[str, ...] | None = None  # labels that were annotated in the reference; None for all


@dataclass(frozen=True)
class _Outcome:
    """Scores of one case, or the faults of its files, collected so that those of all cases are reported together."""

    scores: dict[str, LabelScores]
    faults: tuple[Fault, ...] = ()


def evaluate(
    predictions: str | Path,
    references: str | Path,
    description: DatasetDescription | None = None,
    *,
    tolerance: float | None = None,
    unmatched: Unmatched = "diagonal",
    jobs: int = 1,
    progress: Progress | None = None,
) -> EvaluationResult:
    """Compare the label files of two folders by file name. References without a prediction are named in the result.

    A case has scores of its annotated labels alone, where the dataset of the references says which these are
    (`preprocessing.dataset.annotated`).

    Args:
        predictions: folder of predicted label files.
        references: folder of reference label files.
        description: dataset description that names the labels; None looks for a dataset.json in `predictions` and beside `references`.
        tolerance: tolerance of the surface Dice in mm; None skips surface metrics.
        unmatched: 95 % Hausdorff distance of a missed or invented structure: the diagonal of the image, or none.
        jobs: number of processes.
        progress: progress display over the cases.

    Raises:
        InputError: folders are missing, predictions lack a reference or have another grid, values are unknown, or two descriptions of the
            labels contradict each other; all are listed.
    """
    faults: list[Fault] = []
    with collecting(faults):
        predicted = list_label_files(Path(predictions))
    with collecting(faults):
        reference = list_label_files(Path(references))
    with collecting(faults):
        description = description or find_description(Path(predictions), Path(references))
    raise_faults(faults)
    predicted, reference = without_by_products(predicted, reference), without_by_products(reference, predicted)
    raise_faults(
        Fault(f"case `{case}`", f"the prediction {path} has no reference in {references}", "Add the reference or remove the file")
        for case, path in predicted.items()
        if case not in reference
    )
    annotated = annotated_beside(Path(references), description)
    pairs = {case: _Pair(path, reference[case], annotated.get(case)) for case, path in predicted.items()}
    score = partial(_score_files, description=description, tolerance=tolerance, unmatched=unmatched)
    found = dict(for_each_case(score, pairs, jobs, progress or Silent(), "Evaluating"))
    raise_faults(fault for outcome in found.values() for fault in outcome.faults)
    expected = _expected_cases(Path(predictions), reference)
    missing = [case for case in reference if case in expected and case not in predicted]
    return summarise({case: found[case].scores for case in pairs}, tolerance, unmatched, missing)


def _expected_cases(predictions: Path, references: Collection[str]) -> Collection[str]:
    """Return the cases that a folder of predictions should hold: every reference, or those of the fold that it validates."""
    fold = validated_fold(predictions)
    if fold is None or not fold.validation.metrics.is_file():
        return references
    with tolerating():
        validated = EvaluationResult.read(fold.validation.metrics)
        return {*validated.cases, *validated.without_prediction}
    return references


def _score_files(
    case: str, pair: _Pair, description: DatasetDescription, tolerance: float | None, unmatched: Unmatched
) -> _Outcome:
    where = f"case `{case}`"
    try:
        predicted, geometry = read_labels(pair.predicted)
        reference, grid = read_labels(pair.reference)
    except InputError as error:
        return _Outcome({}, tuple(fault.within(where) for fault in error.faults))
    faults = geometry_faults(where, f"the prediction {pair.predicted}", geometry, grid)
    for path, labels in ((pair.predicted, predicted), (pair.reference, reference)):
        unknown = unknown_values(labels, description)
        if unknown:
            faults.append(unknown_values_fault(f"{where}, {path}", unknown, description))
    if faults:
        return _Outcome({}, tuple(faults))
    return _Outcome(score_case(predicted, reference, description, grid.spacing, tolerance, unmatched, pair.annotated))
