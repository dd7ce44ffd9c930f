"""Which cases train and which validate: five folds as nnU-Net makes them, in a file that the user may edit."""

import csv
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from configs.errors import Fault, InputError, raise_faults
from configs.files import read_json, write_json

logger = logging.getLogger(__name__)

FOLDS = 5
_SEED = 12345  # nnU-Net's, so that the folds are the same
_REMEDY = "Correct the file, or delete it so that it is made anew"


@dataclass(frozen=True)
class Fold:
    """Cases that train and cases that validate."""

    training: frozenset[str]
    validation: frozenset[str]


def find_folds(path: Path, cases: Sequence[str]) -> list[Fold]:
    """The folds of `splits.json` where it is there, else those that training will make; none where one case is all there is.

    Raises:
        InputError: the file is no list of `{"train": [...], "val": [...]}`.
    """
    if not path.is_file():
        return default_folds(cases)
    try:
        return [Fold(frozenset(entry["train"]), frozenset(entry["val"])) for entry in read_json(path)]
    except (TypeError, KeyError) as error:
        remedy = "Correct the file, or delete it so that it is made anew"
        raise InputError(Fault(str(path), 'it is no list of {"train": [cases], "val": [cases]}', remedy)) from error


def default_folds(cases: Sequence[str]) -> list[Fold]:
    """Five shuffled folds over the sorted cases, or one for each case where there are fewer: those of scikit-learn's
    `KFold(shuffle=True, random_state=12345)`, without the second that its import takes."""
    names = np.array(sorted(cases), dtype=object)
    if len(names) < 2:
        return []
    order = np.arange(len(names))
    np.random.RandomState(_SEED).shuffle(order)
    everything = frozenset(names)
    parts = [frozenset(names[part]) for part in np.array_split(order, min(FOLDS, len(names)))]
    return [Fold(everything - part, part) for part in parts]


@dataclass(frozen=True)
class Split:
    """One fold.

    Attributes:
        training, validation: case identifiers, sorted.
    """

    training: tuple[str, ...]
    validation: tuple[str, ...]


def make_splits(identifiers: Sequence[str], groups: Mapping[str, str] | None = None) -> list[Split]:
    """Shuffled folds over the sorted cases, or over groups of cases: five, or one for each where there are fewer.

    Args:
        identifiers: of the cases.
        groups: case -> group, such as its patient; None takes each case by itself, as nnU-Net does.

    Raises:
        InputError: fewer than two cases or groups, or cases without a group.
    """
    from sklearn.model_selection import KFold  # slow to import, and needed once for a dataset

    ungrouped = set(identifiers) - set(groups) if groups is not None else set()
    if ungrouped:
        raise InputError(Fault("--group-by", f"it has no group for {_named(ungrouped)}", "Add a line for each of them"))
    members: dict[str, list[str]] = {}
    for case in sorted(identifiers):
        members.setdefault(case if groups is None else groups[case], []).append(case)
    units = sorted(members)
    if len(units) < 2:
        kind = "prepared case" if groups is None else "group"
        problem = f"{len(units)} {kind}{'s' if len(units) != 1 else ''} cannot be split"
        raise InputError(Fault("folds", problem, "Add cases, or train on all with --fold all"))
    folds = KFold(n_splits=min(FOLDS, len(units)), shuffle=True, random_state=_SEED).split(units)
    return [
        Split(*(tuple(sorted(case for index in part for case in members[units[index]])) for part in parts)) for parts in folds
    ]


def read_groups(path: Path) -> dict[str, str]:
    """Groups of cases: JSON `{"case": "group"}`, or text with `case,group` in each line (a heading `case,group` may come first).

    Raises:
        InputError: the file cannot be read or is neither.
    """
    if path.suffix == ".json":
        data = read_json(path)
        if not isinstance(data, dict) or not all(isinstance(group, str | int) for group in data.values()):
            raise InputError(Fault(str(path), 'it is no {"case": "group"}', "Correct the file"))
        return {case: str(group) for case, group in data.items()}
    try:
        rows = [row for row in csv.reader(path.read_text(encoding="utf-8").splitlines()) if row]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(Fault(str(path), f"the file cannot be read ({error})", "Check the path")) from error
    raise_faults(
        Fault(f"{path}: line {number}", f"`{','.join(row)}` is no case,group", "Write two values, separated by a comma")
        for number, row in enumerate(rows, start=1)
        if len(row) != 2
    )
    groups = {case.strip(): group.strip() for case, group in rows}
    return {case: group for case, group in groups.items() if (case, group) != ("case", "group")}


def choose_split(path: Path, fold: int | str, identifiers: Sequence[str], group_by: Path | None = None) -> Split:
    """The cases of a fold; `splits.json` is made where it is missing.

    Args:
        path: of `splits.json`: a list of `{"train": [...], "val": [...]}`, the format of nnU-Net's `splits_final.json`.
        fold: a number from 0, or "all": every case trains and validates.
        identifiers: the prepared cases.
        group_by: file of groups that stay together when the folds are made; see `read_groups`.

    Raises:
        InputError: no such fold, a file that cannot be used (every fault is listed), or folds that separate a group.
    """
    if fold == "all":
        everything = tuple(sorted(identifiers))
        return Split(everything, everything)
    groups = None if group_by is None else read_groups(group_by)
    if not path.exists():
        write_json(path, [{"train": split.training, "val": split.validation} for split in make_splits(identifiers, groups)])
    splits = read_splits(path, identifiers)
    if groups is not None:
        raise_faults(_separated(path, splits, groups))
    if not isinstance(fold, int) or not 0 <= fold < len(splits):
        raise InputError(Fault(f"fold {fold}", f"{path} has the folds 0 to {len(splits) - 1}", "Choose one of them, or `all`"))
    chosen = splits[fold]
    unused = set(identifiers) - {*chosen.training, *chosen.validation}
    if unused:
        logger.warning("%d prepared cases are in no part of fold %s of %s: %s", len(unused), fold, path, _named(unused))
    return chosen


def _separated(path: Path, splits: Sequence[Split], groups: Mapping[str, str]) -> Iterator[Fault]:
    for fold, split in enumerate(splits):
        training, validation = ({groups.get(case, case) for case in part} for part in (split.training, split.validation))
        if training & validation:
            problem = f"it trains and validates on the same groups: {_named(training & validation)}"
            yield Fault(f"{path}: fold {fold}", problem, "Delete the file, so that it is made anew with --group-by")


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
