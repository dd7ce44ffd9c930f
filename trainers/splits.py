"""Which cases train and which validate: five folds as nnU-Net makes them, in a file that the user may edit."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import Fault, InputError, raise_faults
from configs.files import read_json, write_json

logger = logging.getLogger(__name__)

FOLDS = 5
_SEED = 12345  # nnU-Net's, so that the folds are the same
_REMEDY = "Correct the file, or delete it so that it is made anew"


@dataclass(frozen=True)
class Split:
    """One fold.

    Attributes:
        training, validation: case identifiers, sorted.
    """

    training: tuple[str, ...]
    validation: tuple[str, ...]


def make_splits(identifiers: Sequence[str]) -> list[Split]:
    """Shuffled folds over the sorted cases: five, or one for each case where there are fewer.

    Raises:
        InputError: fewer than two cases.
    """
    from sklearn.model_selection import KFold  # slow to import, and needed once for a dataset

    cases = sorted(identifiers)
    if len(cases) < 2:
        problem = f"{len(cases)} prepared case{'s' if len(cases) != 1 else ''} cannot be split"
        raise InputError(Fault("folds", problem, "Add cases, or train on all with --fold all"))
    folds = KFold(n_splits=min(FOLDS, len(cases)), shuffle=True, random_state=_SEED).split(cases)
    return [Split(tuple(cases[i] for i in training), tuple(cases[i] for i in validation)) for training, validation in folds]


def choose_split(path: Path, fold: int | str, identifiers: Sequence[str]) -> Split:
    """The cases of a fold; `splits.json` is made where it is missing.

    Args:
        path: of `splits.json`: a list of `{"train": [...], "val": [...]}`, the format of nnU-Net's `splits_final.json`.
        fold: a number from 0, or "all": every case trains and validates.
        identifiers: the prepared cases.

    Raises:
        InputError: no such fold, or a file that cannot be used; every fault is listed.
    """
    if fold == "all":
        everything = tuple(sorted(identifiers))
        return Split(everything, everything)
    if not path.exists():
        write_json(path, [{"train": split.training, "val": split.validation} for split in make_splits(identifiers)])
    splits = read_splits(path, identifiers)
    if not isinstance(fold, int) or not 0 <= fold < len(splits):
        raise InputError(Fault(f"fold {fold}", f"{path} has the folds 0 to {len(splits) - 1}", "Choose one of them, or `all`"))
    chosen = splits[fold]
    unused = set(identifiers) - {*chosen.training, *chosen.validation}
    if unused:
        logger.warning("%d prepared cases are in no part of fold %s of %s: %s", len(unused), fold, path, _named(unused))
    return chosen


def read_splits(path: Path, identifiers: Sequence[str]) -> list[Split]:
    """Read and check a splits file.

    Raises:
        InputError: it is no list of folds, or a fold is empty, names a case twice, or names one that is not prepared.
    """
    data = read_json(path)
    if not isinstance(data, list) or not data or not all(_is_fold(entry) for entry in data):
        raise InputError(Fault(str(path), 'it is no list of {"train": [cases], "val": [cases]}', _REMEDY))
    splits = [Split(tuple(sorted(entry["train"])), tuple(sorted(entry["val"]))) for entry in data]
    known = set(identifiers)
    raise_faults(fault for fold, split in enumerate(splits) for fault in _faults(f"{path}: fold {fold}", split, known))
    return splits


def _is_fold(entry: Any) -> bool:
    return isinstance(entry, dict) and all(
        isinstance(entry.get(part), list) and all(isinstance(case, str) for case in entry[part]) for part in ("train", "val")
    )


def _faults(where: str, split: Split, known: set[str]) -> list[Fault]:
    listed = (*split.training, *split.validation)
    twice = {case for case in listed if listed.count(case) > 1}
    unknown = set(listed) - known
    faults = []
    if not split.training:
        faults.append(Fault(where, "it has no training case", _REMEDY))
    if twice:
        faults.append(Fault(where, f"it lists twice, or both in train and val: {_named(twice)}", _REMEDY))
    if unknown:
        faults.append(Fault(where, f"it lists cases that are not prepared: {_named(unknown)}", _REMEDY))
    return faults


def _named(cases: set[str], most: int = 10) -> str:
    return ", ".join(sorted(cases)[:most]) + (", ..." if len(cases) > most else "")
