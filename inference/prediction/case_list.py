"""Find the images to segment: a file, a folder, or a file that lists cases."""

from pathlib import Path
from typing import Any

from configs.dataset import DatasetDescription
from configs.errors import Fault, InputError, raise_faults
from configs.files import is_file, read_json, read_rows
from preprocessing.dataset.raw import find_cases
from preprocessing.formats.registry import stem_of

LISTS = (".json", ".txt")


def list_cases(path: Path, description: DatasetDescription) -> dict[str, tuple[Path, ...]]:
    """Return the image files of each case, one per channel or one with all channels, sorted by case.

    A list is a JSON file `{"case": ["channel0.nii.gz", ...], ...}`, or a text file with one case per line and its channels separated by
    tabs or commas; such a case is named after its first file, without the channel number. Paths are relative to the list.

    Raises:
        InputError: there are no cases, files are missing, or the number of channels is wrong; all faults are listed.
    """
    if path.suffix.lower() not in LISTS or not path.is_file():
        return find_cases(path, description)
    is_json = path.suffix.lower() == ".json"
    listed = _from_json(path) if is_json else [(_case_of(row[0]), row) for _, row in read_rows(path)]
    faults, cases = [], {}
    for case, names in listed:
        files = tuple(path.parent / name for name in names)
        if case in cases:
            faults.append(Fault(f"case `{case}`", f"{path} lists it twice", "Remove one, or name the cases in a JSON list"))
        if len(files) not in (1, len(description.channels)):
            problem = f"{path} lists {len(files)} files for {len(description.channels)} channels"
            faults.append(Fault(f"case `{case}`", problem, "List one file per channel, or one with all channels"))
        missing = [file for file in files if not is_file(file)]
        faults += [Fault(f"case `{case}`", f"{file} does not exist", f"Fix {path}") for file in missing]
        cases[case] = files
    if not listed:
        faults.append(Fault(str(path), "the list is empty", "Write one case per line"))
    raise_faults(faults)
    return dict(sorted(cases.items()))


def _from_json(path: Path) -> list[tuple[str, list[str]]]:
    data: Any = read_json(path)
    usable = isinstance(data, dict) and all(
        isinstance(files, list) and files and all(isinstance(file, str) for file in files) for files in data.values()
    )
    if not usable:
        raise InputError(Fault(str(path), "not of the form {case: [files]}", "Give each case the list of its channels' files"))
    return list(data.items())


def _case_of(file: str) -> str:
    name = stem_of(Path(file))
    return name[:-5] if len(name) > 5 and name[-5] == "_" and name[-4:].isdigit() else name
