"""Cross-validation folds: five as nnU-Net makes them, in a file that the user may edit."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from configs.errors import Fault, InputError, counted, listed, raise_faults
from configs.files import read_json, read_rows, write_json
from preprocessing.tables import require_pairs

logger = logging.getLogger(__name__)

FOLDS = 5
NNUNET_SPLITS = "splits_final.json"
_HEADING = ["case", "group"]
_SEED = 12345  # nnU-Net's, so that the folds are the same
_REMEDY = "Fix the file, or delete it to have it regenerated"


@dataclass(frozen=True)
class Split:
    """Sorted case identifiers of one fold."""

    training: tuple[str, ...]
    validation: tuple[str, ...]


def find_splits(path: Path, cases: Sequence[str]) -> list[Split]:
    """Return the folds of `splits.json`, or those that training will make where there is no file; none for a single case.

    Raises:
        InputError: the file is not a list of `{"train": [...], "val": [...]}`.
    """
    if path.is_file():
        return read_splits(path)
    return make_splits(cases) if len(cases) > 1 else []


def make_splits(identifiers: Sequence[str], groups: Mapping[str, str] | None = None) -> list[Split]:
    """Return shuffled folds over the sorted cases, or over groups of cases: five, or one for each where there are fewer.

    They are those of scikit-learn's `KFold(shuffle=True, random_state=12345)`, which nnU-Net uses. `groups` maps a case to its group, such
    as its patient; None takes each case by itself, as nnU-Net does.

    Raises:
        InputError: fewer than two cases or groups, or cases without a group.
    """
    _require_groups(identifiers, groups)
    members: dict[str, list[str]] = {}
    for case in sorted(identifiers):
        members.setdefault(case if groups is None else groups[case], []).append(case)
    units = sorted(members)
    if len(units) < 2:
        kind = "prepared case" if groups is None else "group"
        raise InputError(
            Fault("folds", f"{counted(len(units), kind)} cannot be split", "Add cases, or train on all with --fold all")
        )
    order = np.random.RandomState(_SEED).permutation(len(units))
    folds = [{case for index in part for case in members[units[index]]} for part in np.array_split(order, min(FOLDS, len(units)))]
    return [Split(tuple(sorted(set(identifiers) - fold)), tuple(sorted(fold))) for fold in folds]


def _require_groups(identifiers: Sequence[str], groups: Mapping[str, str] | None) -> None:
    ungrouped = set(identifiers) - set(groups) if groups is not None else set()
    if ungrouped:
        raise InputError(Fault("--group-by", f"no group is given for {listed(sorted(ungrouped))}", "Add a line for each of them"))


def read_groups(path: Path) -> dict[str, str]:
    """Read groups of cases: JSON `{"case": "group"}`, or text with `case,group` in each line (a heading `case,group` may come first).

    Raises:
        InputError: the file cannot be read, has neither form, or lists a case twice; all such lines are listed.
    """
    if path.suffix.lower() == ".json":
        data = read_json(path)
        if not isinstance(data, dict) or not all(isinstance(group, str | int) and str(group) for group in data.values()):
            raise InputError(Fault(str(path), 'not of the form {"case": "group"}', "Fix the file"))
        return {case: str(group) for case, group in data.items()}
    rows = read_rows(path)
    if rows and [value.casefold() for value in rows[0][1]] == _HEADING:
        rows = rows[1:]
    require_pairs(path, rows, _HEADING)
    lines: dict[str, list[int]] = {}
    for number, (case, _) in rows:
        lines.setdefault(case, []).append(number)
    raise_faults(
        Fault(f"{path}: case `{case}`", f"lines {' and '.join(map(str, numbers))} list it", "Keep one of the lines")
        for case, numbers in lines.items()
        if len(numbers) > 1
    )
    return {case: group for _, (case, group) in rows}


def choose_split(path: Path, fold: int | str, identifiers: Sequence[str], group_by: Path | None = None) -> Split:
    """Return the cases of a fold, and write `splits.json` where it is missing.

    Args:
        path: path to `splits.json`: a list of `{"train": [...], "val": [...]}`, the format of nnU-Net's `splits_final.json`.
        fold: a number from 0, or "all": every case trains and validates.
        identifiers: identifiers of the prepared cases.
        group_by: path to the groups that stay together when the folds are made (see `read_groups`).

    Raises:
        InputError: no such fold, an unusable file (every fault is listed), or folds that separate a group.
    """
    if fold == "all":
        everything = tuple(sorted(identifiers))
        return Split(everything, everything)
    groups = None if group_by is None else read_groups(group_by)
    _require_groups(identifiers, groups)
    if not path.exists():
        write_splits(path, make_splits(identifiers, groups))
    splits = read_splits(path, set(identifiers))
    if groups is not None:
        raise_faults(_separated(path, splits, groups))
    if not isinstance(fold, int) or not 0 <= fold < len(splits):
        raise InputError(Fault(f"fold {fold}", f"{path} has the folds 0 to {len(splits) - 1}", "Choose one of them, or `all`"))
    chosen = splits[fold]
    unused = set(identifiers) - {*chosen.training, *chosen.validation}
    if unused:
        logger.warning(
            "%d prepared cases are in neither part of fold %s of %s: %s", len(unused), fold, path, listed(sorted(unused))
        )
    return chosen


def _separated(path: Path, splits: Sequence[Split], groups: Mapping[str, str]) -> Iterator[Fault]:
    for fold, split in enumerate(splits):
        training, validation = ({groups[case] for case in part} for part in (split.training, split.validation))
        if training & validation:
            problem = f"the same groups train and validate: {listed(sorted(training & validation))}"
            yield Fault(f"{path}: fold {fold}", problem, "Delete the file to have it regenerated with --group-by")


def read_splits(path: Path, known: set[str] | None = None) -> list[Split]:
    """Read a splits file, and compare its cases with the identifiers of the prepared cases, if these are `known`.

    Raises:
        InputError: it is not a list of `{"train": [...], "val": [...]}`, or a fold lists a case twice, an unknown case, or no training
            case; all faults are listed.
    """
    data = read_json(path)
    if not isinstance(data, list) or not data or not all(_is_fold(entry) for entry in data):
        raise InputError(Fault(str(path), 'not a list of {"train": [cases], "val": [cases]}', _REMEDY))
    splits = [Split(tuple(sorted(entry["train"])), tuple(sorted(entry["val"]))) for entry in data]
    raise_faults(fault for index, split in enumerate(splits) for fault in _faults(f"{path}: fold {index}", split, known))
    for index, split in enumerate(splits):
        if split in splits[:index]:
            logger.warning("%s: folds %d and %d have the same cases", path, splits.index(split), index)
    return splits


def write_splits(path: Path, splits: Sequence[Split]) -> None:
    """Write a splits file."""
    write_json(path, [{"train": split.training, "val": split.validation} for split in splits])


def adopt_splits(given: str | Path | None, dataset: Path, target: Path, known: set[str]) -> None:
    """Take the folds of a file, or of nnU-Net's `splits_final.json` in the dataset's folder, for the trainings to come.

    Folds that the user gave replace others, with a warning; those that were found in the dataset do not. Trained folds record their cases,
    so that no training goes on with other ones. `target` is the `splits.json` that trainings read, and `known` has the identifiers of the
    cases.

    Raises:
        InputError: the file cannot be used; see `read_splits`.
    """
    source = dataset / NNUNET_SPLITS if given is None else Path(given)
    if given is None and (not source.is_file() or target.exists()):
        return
    splits = read_splits(source, known)
    if target.exists() and read_splits(target) != splits:
        logger.warning("%s is replaced by the folds of %s", target, source)
    write_splits(target, splits)
    logger.info("The folds are those of %s", source)


def _is_fold(entry: Any) -> bool:
    return isinstance(entry, dict) and all(
        isinstance(entry.get(part), list) and all(isinstance(case, str) for case in entry[part]) for part in ("train", "val")
    )


def _faults(where: str, split: Split, known: set[str] | None) -> list[Fault]:
    times = Counter((*split.training, *split.validation))
    twice = {case for case, count in times.items() if count > 1}
    unknown = set(times) - known if known is not None else set()
    faults = []
    if not split.training:
        faults.append(Fault(where, "no training case", _REMEDY))
    if twice:
        faults.append(Fault(where, f"listed twice, or both in train and val: {listed(sorted(twice))}", _REMEDY))
    if unknown:
        faults.append(Fault(where, f"cases that are not prepared: {listed(sorted(unknown))}", _REMEDY))
    return faults
