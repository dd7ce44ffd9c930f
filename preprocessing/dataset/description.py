"""Read `dataset.json` of either layout into a `DatasetDescription`."""

from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from configs.dataset import BACKGROUND, IGNORE, DatasetDescription
from configs.errors import Fault, InputError
from configs.folders import dataset_name
from configs.plan import NORMALISATIONS, Normalisation
from preprocessing.formats.registry import ending_of

_REMEDY = "Fix `dataset.json` (README shows an example)"


def read_description(folder: Path, data: Any) -> DatasetDescription:
    """Return the channels, labels and file ending that `dataset.json` states.

    `data` is its parsed content. The folder's name is the dataset's name.

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
    else:
        faults += [Fault(str(where), f"`labels` has the name `{name}` twice", _REMEDY) for name in _repeated(labels)]
    if faults or channels is None or labels is None:
        raise InputError(*faults)
    try:
        return DatasetDescription(
            name=dataset_name(folder),
            channels=channels,
            labels=dict(labels),
            file_ending=_with_dot(data.get("file_ending")) or _ending_of_listed(data),
            regions_class_order=data.get("regions_class_order"),
            codes=data.get("codes", {}),
        )
    except ValidationError as error:
        raise InputError(*(_broken_rule(where, problem) for problem in error.errors())) from error


def read_normalisation(folder: Path, data: dict[str, Any], channels: int) -> tuple[Normalisation | None, ...]:
    """Return the normalisation that `dataset.json` states for each channel; None where the name of the channel decides.

    `data` is its parsed content, whose `normalisation` maps numbers of channels to schemes.

    Raises:
        InputError: the entry names other channels or unknown schemes.
    """
    where = f"{folder / 'dataset.json'}: normalisation"
    stated = data.get("normalisation", data.get("normalization", {}))
    numbers = [str(index) for index in range(channels)]
    if not isinstance(stated, dict) or not set(stated) <= set(numbers) or {"normalisation", "normalization"} <= set(data):
        raise InputError(
            Fault(where, f"not an object from the channels {', '.join(numbers)} to schemes", 'For example {"0": "ct"}')
        )
    unknown = [f"`{scheme}`" for scheme in stated.values() if str(scheme).casefold() not in NORMALISATIONS]
    if unknown:
        remedy = f"Choose from {', '.join(NORMALISATIONS)}"
        raise InputError(Fault(where, f"unknown scheme {', '.join(unknown)}", remedy))
    return tuple(NORMALISATIONS[str(stated[number]).casefold()] if number in stated else None for number in numbers)


def _in_order(names: Any) -> tuple[str, ...] | None:
    if not isinstance(names, dict) or sorted(names) != sorted(str(index) for index in range(len(names))) or not names:
        return None
    return tuple(str(names[str(index)]) for index in range(len(names)))


def _labels(labels: Any) -> list[tuple[str, Any]] | None:
    """Return names with their values; Decathlon files map values to names. `background` and `ignore` are known in any case."""
    if not isinstance(labels, dict):
        return None
    pairs = list(labels.items())
    if labels and all(isinstance(name, str) for name in labels.values()):
        if not all(key.isdecimal() for key in labels):
            return None
        pairs = [(name, int(value)) for value, name in labels.items()]
    return [(_reserved(name) or name, value) for name, value in pairs]


def _reserved(name: str) -> str | None:
    word = name.strip().casefold()
    return word if word in (BACKGROUND, IGNORE) else None


def _repeated(labels: list[tuple[str, Any]]) -> list[str]:
    return [name for name, count in Counter(name for name, _ in labels).items() if count > 1]


def _with_dot(ending: Any) -> Any:
    """Return a file ending with its dot, in lower case like the endings of files."""
    if not isinstance(ending, str) or not ending.strip():
        return ending
    return f".{ending.strip().lower().removeprefix('.')}"


def _ending_of_listed(data: dict[str, Any]) -> str:
    """Return the ending of the first training image listed in a Decathlon file."""
    training = data.get("training")
    first = training[0].get("image") if isinstance(training, list) and training and isinstance(training[0], dict) else None
    return (ending_of(Path(first)) if isinstance(first, str) else None) or ".nii.gz"


def _broken_rule(where: Path, problem: Any) -> Fault:
    field = ".".join(str(part) for part in problem["loc"] if part not in ("int", "tuple[int, ...]"))
    text = str(problem["msg"]).removeprefix("Value error, ")
    return Fault(f"{where}{': ' + field if field else ''}", text, _REMEDY)
