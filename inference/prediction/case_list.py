"""Which images to segment: a file, a folder, or a file that lists them."""

from pathlib import Path
from typing import Any

from configs.dataset import DatasetDescription
from configs.errors import Fault, InputError, raise_faults
from configs.files import read_json
from preprocessing.dataset.raw import find_cases
from preprocessing.formats.endings import is_file, stem_of

LISTS = (".json", ".txt")


def list_cases(path: Path, description: DatasetDescription) -> dict[str, tuple[Path, ...]]:
    """Case -> its image files, one for each channel or one with all of them, sorted by case.

    A list is a JSON file `{"case": ["channel0.nii.gz", ...], ...}`, or a text file with one case in each line, its channels separated
    by tabs or commas; the case is then named as its first file, without a channel's number. Paths are relative to the list.

    Raises:
        InputError: nothing there, files missing, or another number of channels; all of them are listed.
    """
    if path.suffix.lower() not in LISTS or not path.is_file():
        return find_cases(path, description)
    listed = _from_json(path) if path.suffix.lower() == ".json" else _from_text(path)
    faults, cases = [], {}
    for case, names in listed:
        files = tuple(path.parent / name for name in names)
        if case in cases:
            faults.append(Fault(f"case `{case}`", f"{path} lists it twice", "Remove one of them, or name cases in a JSON list"))
        if len(files) not in (1, len(description.channels)):
            problem = f"{path} lists {len(files)} files for {len(description.channels)} channels"
            faults.append(Fault(f"case `{case}`", problem, "List one file for each channel, or one with all of them"))
        missing = [file for file in files if not is_file(file)]
        faults += [Fault(f"case `{case}`", f"there is no file {file}", f"Correct {path}") for file in missing]
        cases[case] = files
    if not listed:
        faults.append(Fault(str(path), "it lists no case", "Write one case in each line"))
    raise_faults(faults)
    return dict(sorted(cases.items()))


def _from_json(path: Path) -> list[tuple[str, list[str]]]:
    data: Any = read_json(path)
    usable = isinstance(data, dict) and all(
        isinstance(files, list) and files and all(isinstance(file, str) for file in files) for files in data.values()
    )
    if not usable:
        raise InputError(Fault(str(path), 'it is no {"case": [files]}', "Give each case the list of its channels' files"))
    return list(data.items())


def _from_text(path: Path) -> list[tuple[str, list[str]]]:
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    rows = [[part.strip() for part in line.replace("\t", ",").split(",")] for line in lines if line and not line.startswith("#")]
    return [(_case_of(row[0]), row) for row in rows]


def _case_of(file: str) -> str:
    name = stem_of(Path(file))
    return name[:-5] if len(name) > 5 and name[-5] == "_" and name[-4:].isdigit() else name
