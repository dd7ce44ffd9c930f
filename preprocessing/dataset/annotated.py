"""Which labels were annotated in which cases, where not every case has all of them.

`dataset.json` says so under `annotated`, {"case": ["label", ...]}, or a table `annotated.csv` beside it with the heading `case,label` and
a row for each label of a case. Cases that are not listed have all labels.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from configs.dataset import DatasetDescription
from configs.errors import Fault, InputError, raise_faults
from configs.files import read_json, read_rows
from preprocessing.tables import require_pairs

ENTRY, TABLE = "annotated", "annotated.csv"
_HEADING = ["case", "label"]


def read_annotated(
    folder: Path,
    data: Mapping[str, Any],
    description: DatasetDescription,
    cases: Collection[str] | None = None,
) -> dict[str, tuple[str, ...]]:
    """Return the annotated labels of each case that lacks some, in the description's order.

    `data` is the content of `dataset.json` in the folder; `cases` has the names of the training cases, None does not compare with them.
    Cases with labels in `labelsTs` may be listed, too.

    Raises:
        InputError: both places say something, or one names unknown cases or labels, a case without any label, or a label for no case;
            all faults are listed.
    """
    table = folder / TABLE
    if data.get(ENTRY) and table.is_file():
        raise InputError(Fault(str(table), f"`{ENTRY}` of `dataset.json` says something, too", "Keep one of them"))
    where = str(table) if table.is_file() else f"{folder / 'dataset.json'}: {ENTRY}"
    listed = _from_table(table) if table.is_file() else _from_entry(where, data.get(ENTRY, {}))
    raise_faults(_faults(where, listed, description))
    raise_faults(() if cases is None else _faults_of_cases(where, listed, description, cases, _test_cases(folder, description)))
    complete = set(description.foreground)
    return {
        case: tuple(name for name in description.foreground if name in names)
        for case, names in listed.items()
        if set(names) != complete
    }


def annotated_beside(references: Path, description: DatasetDescription) -> dict[str, tuple[str, ...]]:
    """Return the annotated labels of the cases of a folder of label files, from the dataset folder that it lies in.

    Raises:
        InputError: as `read_annotated`.
    """
    folder = references.resolve().parent
    data = read_json(folder / "dataset.json") if (folder / "dataset.json").is_file() else {}
    return read_annotated(folder, data if isinstance(data, dict) else {}, description)


def with_annotated(where: Path, description: DatasetDescription, sets: tuple[tuple[str, ...], ...]) -> DatasetDescription:
    """Return the description with these sets of annotated labels. Raises `InputError` where it cannot have them."""
    try:
        return DatasetDescription.model_validate({**description.model_dump(), "annotated": sets})
    except ValidationError as error:
        problems = [str(one["msg"]).removeprefix("Value error, ") for one in error.errors()]
        raise InputError(*(Fault(str(where), problem, "Annotate all labels in all cases") for problem in problems)) from error


def _from_entry(where: str, entry: Any) -> dict[str, list[str]]:
    is_usable = isinstance(entry, dict) and all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in entry.values()
    )
    if not is_usable:
        raise InputError(Fault(where, "not an object from cases to lists of labels", 'For example {"case_1": ["liver"]}'))
    return dict(entry)


def _from_table(path: Path) -> dict[str, list[str]]:
    rows = read_rows(path)
    if not rows or [value.strip().casefold() for value in rows[0][1]] != _HEADING:
        raise InputError(Fault(str(path), f"the first line is not `{','.join(_HEADING)}`", "Begin the table with this heading"))
    require_pairs(path, rows[1:], _HEADING)
    listed: dict[str, list[str]] = {}
    for _, (case, label) in rows[1:]:
        listed.setdefault(case, []).append(label)
    return listed


def _test_cases(folder: Path, description: DatasetDescription) -> set[str]:
    ending = description.file_ending
    return {path.name.removesuffix(ending) for path in (folder / "labelsTs").glob(f"*{ending}")}


def _faults(where: str, listed: Mapping[str, list[str]], description: DatasetDescription) -> Iterator[Fault]:
    for case, names in listed.items():
        unknown = sorted(set(names) - set(description.foreground))
        if unknown:
            problem = (
                f"case `{case}`: {', '.join(unknown)} {'is no label' if len(unknown) == 1 else 'are not labels'} of the dataset"
            )
            yield Fault(where, problem, f"Choose among {', '.join(description.foreground)}")
        if not names:
            yield Fault(where, f"case `{case}` has no annotated label", "Remove the case, or name its labels")


def _faults_of_cases(
    where: str, listed: Mapping[str, list[str]], description: DatasetDescription, training: Collection[str], test: Collection[str]
) -> Iterator[Fault]:
    for case in listed:
        if case not in training and case not in test:
            yield Fault(where, f"there is no case `{case}`", "Fix the name, or leave the case out")
    for name in description.foreground if training else ():
        if not any(name in listed.get(case, [name]) for case in training):
            yield Fault(where, f"no training case has the annotation of {name}", "Remove it from `labels` in `dataset.json`")
