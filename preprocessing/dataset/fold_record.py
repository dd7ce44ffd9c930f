"""Cases that a fold trains on and validates, recorded in its folder when its training begins.

A file of splits may be edited after a training, and then says nothing about the weights. The record does, and everything that needs to know
which cases a trained fold has seen asks here.
"""

import logging

from configs.errors import Fault, InputError, listed, raise_faults
from configs.files import Value
from configs.folders import ALL, FoldFolder
from configs.run_log import digest
from preprocessing.dataset.splits import Split, read_splits

logger = logging.getLogger(__name__)


class FoldRecord(Value):
    """Content of a fold's `split.json`."""

    training: tuple[str, ...]  # case identifiers, sorted
    validation: tuple[str, ...]
    splits: str | None = None  # SHA-256 of the file of splits when the training began; None for fold `all`, which does not use it

    @property
    def split(self) -> Split:
        """The cases of the fold."""
        return Split(self.training, self.validation)


def record_split(fold: FoldFolder, split: Split) -> None:
    """Write the cases of a fold whose training begins."""
    splits = fold.model.dataset.splits
    known = digest(splits) if fold.name != ALL and splits.is_file() else None
    FoldRecord(training=split.training, validation=split.validation, splits=known).write(fold.split)


def recorded_split(fold: FoldFolder) -> Split | None:
    """Return the cases with which a fold was trained; None for a fold of a version that did not record them.

    Raises:
        InputError: the record cannot be read, or the present file of splits gives the fold other cases; all that moved are named.
    """
    if not fold.split.is_file():
        return None
    record, splits = FoldRecord.read(fold.split), fold.model.dataset.splits
    if fold.name != ALL and splits.is_file() and digest(splits) != record.splits:
        raise_if_moved(fold, record.split, present_split(fold))
    return record.split


def trained_split(fold: FoldFolder) -> Split:
    """Return the cases with which a fold was trained, from its record, or else, with a warning, from the present file of splits.

    Raises:
        InputError: as `recorded_split`, or there is neither a record nor a split of this fold.
    """
    recorded = recorded_split(fold)
    if recorded is None:
        warn_without_record(fold)
    return recorded or present_split(fold)


def warn_without_record(fold: FoldFolder) -> None:
    """Warn that the cases with which a fold was trained are not certain. A model from elsewhere has no splits to take for them."""
    if not fold.model.dataset.plan.is_file():
        return
    logger.warning("%s has no %s: the present splits are taken for those of its training", fold, fold.split.name)


def held_out_cases(fold: FoldFolder) -> tuple[str, ...]:
    """Return the cases that a trained fold has not seen in training.

    Raises:
        InputError: as `trained_split`, or the fold has seen every case.
    """
    if fold.name == ALL:
        problem = "it trained on every case, so it has no validation cases that it does not know"
        raise InputError(Fault(f"fold {ALL}", problem, "Choose a numbered fold with --folds"))
    return trained_split(fold).validation


def present_split(fold: FoldFolder) -> Split:
    """Return the cases that the present file of splits gives a fold.

    Raises:
        InputError: the file cannot be read, or has no such fold, or the model does not lie in the folder of its dataset.
    """
    splits = fold.model.dataset.splits
    if not splits.is_file() and not fold.model.dataset.plan.is_file():
        problem = "its validation cases are not known, because it does not lie in the folder of its dataset under WORK"
        remedy = "A model from elsewhere can be calibrated on cases that it does not know, with se_evaluate -m MODEL --calibrate DATASET"
        raise InputError(Fault(str(fold), problem, remedy))
    folds = read_splits(splits)
    if not fold.name.isdecimal() or int(fold.name) >= len(folds):
        problem = f"{splits} has no validation cases for this fold"
        raise InputError(
            Fault(f"fold {fold.name}", problem, "Choose one of its folds, or restore the file with which it was trained")
        )
    return folds[int(fold.name)]


def raise_if_moved(fold: FoldFolder, recorded: Split, present: Split) -> None:
    """Raise `InputError` that names the cases which are no longer where they were when the fold was trained."""
    before, now = _parts(recorded), _parts(present)
    moves: dict[str, set[str]] = {}
    for case in before.keys() | now.keys():
        old, new = before.get(case, "neither part"), now.get(case, "neither part")
        if old != new:
            moves.setdefault(f"from {old} to {new}", set()).add(case)
    source = "the prepared cases" if fold.name == ALL else str(fold.model.dataset.splits)
    told = "; ".join(f"{listed(sorted(cases), _MOST_NAMED)} moved {move}" for move, cases in sorted(moves.items()))
    problem = f"its training began with other cases than {source} now give: {told}"
    raise_faults([Fault(str(fold), problem, _REMEDY)] if moves else [])


_REMEDY = "Restore what it was trained with, or train the fold again with --restart"
_MOST_NAMED = 20


def _parts(split: Split) -> dict[str, str]:
    """Return the part of each case."""
    training = dict.fromkeys(split.training, "training")
    validation = dict.fromkeys(split.validation, "validation")
    both = dict.fromkeys(training.keys() & validation.keys(), "training and validation")
    return training | validation | both
