"""Read `dataset.json` of either layout into a `DatasetDescription`."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from configs.dataset import BACKGROUND, DatasetDescription
from configs.errors import Fault, InputError
from configs.folders import dataset_name
from preprocessing.formats.registry import ending_of

_REMEDY = "Fix `dataset.json` (README shows an example)"


def read_description(folder: Path, data: Any) -> DatasetDescription:
    """Return the channels, labels and file ending that `dataset.json` states.

    Args:
        folder: dataset folder, whose name is the dataset's name.
        data: parsed content of `dataset.json`.

    Raises:
        InputError: entries are missing or break a rule; all of them are listed.
    """
    where = folder / "dataset.json"
    if not isinstance(data, dict):
        raise InputError(Fault(str(where), "not a JSON object", _REMEDY))
    faults: list[Fault] = []
    channels = _in_order(data.get("channel_names", data.get("modality")))
    if channels is None:
        faults.append(Fault(str(where), "`channel_names` must name channels 0, 1, ...", 'For example {"0": "CT"}'))
    labels = _labels(data.get("labels"))
    if labels is None:
        faults.append(Fault(str(where), "`labels` must map names to values", 'For example {"background": 0, "liver": 1}'))
    if faults or channels is None or labels is None:
        raise InputError(*faults)
    try:
        return DatasetDescription(
            name=dataset_name(folder),
            channels=channels,
            labels=labels,
            file_ending=data.get("file_ending") or _ending_of_listed(data),
            regions_class_order=data.get("regions_class_order"),
        )
    except ValidationError as error:
        raise InputError(*(_broken_rule(where, problem) for problem in error.errors())) from error


def _in_order(names: Any) -> tuple[str, ...] | None:
    if not isinstance(names, dict) or sorted(names) != sorted(str(index) for index in range(len(names))) or not names:
        return None
    return tuple(str(names[str(index)]) for index in range(len(names)))


def _labels(labels: Any) -> dict[str, Any] | None:
    """Return a mapping from names to values; Decathlon files map values to names."""
    if not isinstance(labels, dict):
        return None
    if labels and all(isinstance(name, str) for name in labels.values()):
        if not all(key.isdecimal() for key in labels):
            return None
        labels = {name: int(value) for value, name in labels.items()}
    return {BACKGROUND if value == 0 and name.casefold() == BACKGROUND else name: value for name, value in labels.items()}


def _ending_of_listed(data: dict[str, Any]) -> str:
    """Return the ending of the first training image listed in a Decathlon file."""
    training = data.get("training")
    first = training[0].get("image") if isinstance(training, list) and training and isinstance(training[0], dict) else None
    return (ending_of(Path(first)) if isinstance(first, str) else None) or ".nii.gz"


def _broken_rule(where: Path, problem: Any) -> Fault:
    field = ".".join(str(part) for part in problem["loc"] if part not in ("int", "tuple[int, ...]"))
    text = str(problem["msg"]).removeprefix("Value error, ")
    return Fault(f"{where}{': ' + field if field else ''}", text, _REMEDY)
