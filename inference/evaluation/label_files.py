"""Find label files and the meaning of their values."""

import logging
from pathlib import Path

from pydantic import ValidationError

from configs.dataset import DatasetDescription
from configs.errors import Fault, InputError, raise_faults, tolerating
from configs.files import read_json
from inference.evaluation.label_meanings import contradictions
from preprocessing.dataset.description import read_description
from preprocessing.formats.registry import endings_remedy, images_in, stem_of

_logger = logging.getLogger(__name__)


def list_label_files(folder: Path) -> dict[str, Path]:
    """Return the label file of each case in a folder, sorted.

    Raises:
        InputError: the folder does not exist, has no image, or has two files of one case.
    """
    if not folder.is_dir():
        raise InputError(Fault(str(folder), "the folder does not exist", "Check the path"))
    files = [file for file in images_in(folder) if file.is_file()]
    if not files:
        raise InputError(Fault(str(folder), "no label file found", endings_remedy()))
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
    """Find the dataset description: in prediction.json or dataset.json in `predictions`, or in dataset.json in or above `references`.

    The first one decides; the others must not contradict it. Another one that cannot be read is named in the log.

    Raises:
        InputError: there is none, or it is wrong, or another one gives a label another meaning.
    """
    places = (predictions, references, references.resolve().parent)
    candidates = [predictions / "prediction.json", *(place / "dataset.json" for place in places)]
    found = [path for path in candidates if path.is_file()]
    if not found:
        problem = f"no prediction.json or dataset.json in this folder, and no dataset.json in or above {references}"
        raise InputError(Fault(str(predictions), problem, "Give the file that names the labels with --labels"))
    description = load_description(found[0])
    raise_faults(fault for other in found[1:] for fault in _contradiction(found[0], description, other))
    return description


def _contradiction(path: Path, description: DatasetDescription, other: Path) -> list[Fault]:
    with tolerating() as faults:
        problems = contradictions(description, load_description(other))
        remedy = "Say with --labels which of the files names the labels of predictions and references"
        return [Fault(str(path), f"it contradicts {other}: {'; '.join(problems)}", remedy)] if problems else []
    _logger.warning("%s is not compared with %s: %s", other, path, InputError(*faults))
    return []


def load_description(path: Path) -> DatasetDescription:
    """Read a dataset.json (of a raw dataset or as written by the commands), a plan.json or a prediction.json.

    Raises:
        InputError: the file is missing or wrong.
    """
    data = read_json(path)
    inner = data.get("dataset") if isinstance(data, dict) else None
    stated = inner if isinstance(inner, dict) and "channels" in inner else data
    if not isinstance(stated, dict) or "channels" not in stated:
        return read_description(path.resolve().parent, stated)
    try:
        return DatasetDescription.model_validate(stated)
    except ValidationError as error:
        faults = [Fault(str(path), str(problem["msg"]), "Fix the file") for problem in error.errors()]
        raise InputError(*faults) from error
