"""Which segmentations in the validation folder of a fold are by its present weights, and of cases that it did not train on."""

from collections.abc import Collection

from configs.errors import Fault, InputError, collecting, raise_faults
from configs.files import Value, list_folder
from configs.folders import ALL, FoldFolder
from configs.plan import ModelPlan
from configs.run_log import digest
from inference.evaluation.scores import EvaluationResult
from preprocessing.dataset.fold_record import present_split, recorded_split, warn_without_record

_ENDING = ".nii.gz"


class ValidationRecord(Value):
    """Content of `weights.json` in a validation folder: the SHA-256 of the weights that made its segmentations."""

    weights: str


def begin_validation(fold: FoldFolder) -> None:
    """Delete what an earlier validation of the fold left, and record the weights that validate now."""
    fold.validation.metrics.unlink(missing_ok=True)
    for segmentation in list_folder(fold.validation.path, f"*{_ENDING}"):
        segmentation.unlink()
    ValidationRecord(weights=digest(fold.final_weights)).write(fold.validation.weights)


def is_outdated(fold: FoldFolder) -> bool:
    """Return whether the fold was validated with other weights than it has now; False where this is not recorded."""
    validation = fold.validation
    if not validation.weights.is_file() or not fold.final_weights.is_file():
        return False
    return ValidationRecord.read(validation.weights).weights != digest(fold.final_weights)


def read_scores(fold: FoldFolder) -> EvaluationResult:
    """Read the scores of the fold's validation cases.

    Raises:
        InputError: the file cannot be read, or has scores of other weights than the fold has now, or of labels that the model does not
            predict.
    """
    if is_outdated(fold):
        raise InputError(outdated(fold))
    result, labels = EvaluationResult.read(fold.validation.metrics), ModelPlan.read(fold.model.plan).dataset.foreground
    stated = dict.fromkeys([*result.means, *(label for scores in result.cases.values() for label in scores)])
    others = [label for label in stated if label not in labels]
    problem = f"it has scores of labels that the model does not predict: {', '.join(others)}"
    raise_faults([Fault(str(fold.validation.metrics), problem, _VALIDATE)] if others else [])
    return result


def validated_cases(fold: FoldFolder) -> list[str]:
    """Return the cases with a segmentation by the fold's present weights that the fold did not train on.

    Raises:
        InputError: the segmentations are by other weights, or the fold was trained with other splits than the present ones.
    """
    files = list_folder(fold.validation.path, f"*{_ENDING}")
    if fold.name == ALL or not files:
        return []
    if is_outdated(fold):
        raise InputError(outdated(fold))
    split, found = recorded_split(fold), [file.name.removesuffix(_ENDING) for file in files]
    if split is None:
        warn_without_record(fold)
        return found
    return [case for case in found if case in split.validation]


def raise_if_seen(fold: FoldFolder, cases: Collection[str]) -> None:
    """Raise `InputError` if scores of a fold are of cases that it does not validate, or the present splits are not those of its training.

    A fold without a record is held against the present splits; where they differ, there is a warning.
    """
    split = recorded_split(fold)
    if split is None:
        _warn_if_moved(fold, cases)
        return
    others = sorted(set(cases) - set(split.validation))
    problem = f"it has scores of cases that the fold does not validate: {', '.join(others)}"
    raise_faults([Fault(str(fold.validation.metrics), problem, _VALIDATE)] if others else [])


def _warn_if_moved(fold: FoldFolder, cases: Collection[str]) -> None:
    if fold.name == ALL or not fold.model.dataset.splits.is_file():
        return
    faults, is_same = list[Fault](), False
    with collecting(faults):
        is_same = set(cases) == set(present_split(fold).validation)
    if not is_same:
        warn_without_record(fold)


def outdated(fold: FoldFolder) -> Fault:
    """Return the fault of a fold that was validated with other weights than it has now."""
    return Fault(str(fold), "its validation was made with other weights than it has now", _VALIDATE)


_VALIDATE = "Validate it again with se_train --validate-only"
