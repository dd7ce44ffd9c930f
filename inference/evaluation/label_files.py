"""Folders of label files: which case each belongs to, and what its values mean."""

from pathlib import Path

from pydantic import ValidationError

from configs.dataset import DatasetDescription
from configs.errors import Fault, InputError, raise_faults
from configs.files import read_json
from preprocessing.dataset.description import read_description
from preprocessing.formats.endings import ENDINGS, ending_of, stem_of


def list_label_files(folder: Path) -> dict[str, Path]:
    """Case -> label file, sorted.

    Raises:
        InputError: no such folder, no image in it, or two files of one case.
    """
    if not folder.is_dir():
        raise InputError(Fault(str(folder), "there is no such folder", "Check the path"))
    files = [file for file in sorted(folder.iterdir()) if ending_of(file) and file.is_file()]
    if not files:
        raise InputError(Fault(str(folder), "there is no label file", f"Known formats are {', '.join(ENDINGS)}"))
    by_case: dict[str, Path] = {}
    faults = []
    for file in files:
        first = by_case.setdefault(stem_of(file), file)
        if first != file:
            problem = f"the case is given twice: {first} and {file}"
            faults.append(Fault(f"case `{stem_of(file)}`", problem, "Keep one of the files"))
    raise_faults(faults)
    return by_case


def find_description(predictions: Path, references: Path) -> DatasetDescription:
    """What label values mean: as the prediction.json or dataset.json in `predictions` says, or the dataset.json of `references`,
    which lies in it or in the folder that holds it.

    Raises:
        InputError: there is none, or it is wrong.
    """
    places = (predictions, references, references.resolve().parent)
    candidates = [predictions / "prediction.json", *(place / "dataset.json" for place in places)]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        problem = f"there is no prediction.json or dataset.json in it, and no dataset.json in {references} or above"
        raise InputError(Fault(str(predictions), problem, "Name the file that names the labels with --labels"))
    return load_description(found)


def load_description(path: Path) -> DatasetDescription:
    """Read a dataset.json (of a raw dataset or as our commands write it), a plan.json or a prediction.json.

    Raises:
        InputError: it is missing or wrong.
    """
    data = read_json(path)
    inner = data.get("dataset") if isinstance(data, dict) else None
    stated = inner if isinstance(inner, dict) and "channels" in inner else data
    if not isinstance(stated, dict) or "channels" not in stated:
        return read_description(path.resolve().parent, stated)
    try:
        return DatasetDescription.model_validate(stated)
    except ValidationError as error:
        faults = [Fault(str(path), str(problem["msg"]), "Correct the file") for problem in error.errors()]
        raise InputError(*faults) from error
