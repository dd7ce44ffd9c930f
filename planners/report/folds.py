"""The folds that training will use, to warn of classes that one of them lacks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from configs.errors import Fault, InputError
from configs.files import read_json

_FOLDS = 5
_SEED = 12345  # nnU-Net's


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
    parts = [frozenset(names[part]) for part in np.array_split(order, min(_FOLDS, len(names)))]
    return [Fold(everything - part, part) for part in parts]
