"""Find the cases of a dataset folder and the files of each.

There are two layouts, told apart by the content of `dataset.json`. nnU-Net: `imagesTr/CASE_0000.nii.gz` (one file per channel, or one
picture with all colours), `labelsTr/CASE.nii.gz`, `dataset.json`. Medical Segmentation Decathlon: one file per case, 4D if there are
several channels, listed in `dataset.json`.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from configs.dataset import DatasetDescription
from configs.errors import Fault, InputError, raise_faults
from configs.files import is_file, read_json
from configs.outputs import name_faults
from configs.plan import Normalisation
from preprocessing.dataset.annotated import read_annotated, with_annotated
from preprocessing.dataset.by_products import is_by_product
from preprocessing.dataset.description import read_description, read_normalisation
from preprocessing.formats.images import read_header
from preprocessing.formats.registry import PICTURES, ending_of, endings_remedy, images_in, known_endings, require_format, stem_of

STORE_SUFFIXES = ("_labels", "_locations")  # names of a prepared case's further files: no other case's name may end with them
_CHANNEL = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")


@dataclass(frozen=True)
class CaseFiles:
    """Files of one case."""

    images: tuple[Path, ...]  # paths to the image files, one per channel in order, or one file with all channels
    labels: Path | None  # path to the label file, or None
    annotated: tuple[str, ...] | None = None  # labels that were annotated, in the description's order; None for all


@dataclass(frozen=True)
class RawDataset:
    """A dataset on disk."""

    folder: Path  # path to the dataset folder
    description: DatasetDescription  # dataset description
    cases: dict[str, CaseFiles]  # files of each case by identifier, sorted; all of them exist
    faults: tuple[Fault, ...] = ()  # faults of incomplete or ambiguous cases
    normalisation: tuple[Normalisation | None, ...] | None = (
        None  # schemes that `dataset.json` states; None leaves them to the names
    )


def open_dataset(dataset: str | Path) -> RawDataset:
    """List the training cases of a dataset folder without opening images.

    Raises:
        InputError: the folder or `dataset.json` is missing or wrong, or cases are incomplete or ambiguous; all faults are listed.
    """
    found = scan_dataset(dataset)
    raise_faults(found.faults)
    return found


def scan_dataset(dataset: str | Path) -> RawDataset:
    """List the training cases like `open_dataset`, but return the faults of single cases for validation to report with its own.

    Raises:
        InputError: the folder or `dataset.json` is missing or wrong.
    """
    folder = Path(dataset)
    if not folder.is_dir():
        raise InputError(Fault(str(folder), "the dataset folder does not exist", "Check the path"))
    json_path = folder / "dataset.json"
    if not json_path.is_file():
        remedy = "Create one that names channels and labels (see README), or give the folder that contains it"
        raise InputError(Fault(str(folder), "there is no `dataset.json`", remedy))
    data = read_json(json_path)
    description = read_description(folder, data)
    normalisation = read_normalisation(folder, data, len(description.channels))
    require_format(data.get("image_format"), json_path)
    if isinstance(data.get("dataset"), dict):
        cases, faults = _listed_by_case(folder, data["dataset"], description)
    elif isinstance(data.get("training"), list) and not isinstance(data.get("channel_names"), dict):
        cases, faults = _listed_by_decathlon(folder, data["training"], description)
    else:
        cases, faults = _found_in_folders(folder, description)
    misnamed = {case: fault for case in cases for fault in name_faults("case", [case])}
    faults += [*misnamed.values(), *_missing_files(cases), *_clashing_names(cases)]
    cases = {case: files for case, files in _with_existing_files(cases).items() if case not in misnamed}
    stated = read_annotated(folder, data, description, cases)
    annotated = {case: names for case, names in stated.items() if case in cases}
    if annotated:
        sets = tuple(sorted(set(annotated.values())))
        description = with_annotated(json_path, description, sets)
        cases = {case: replace(files, annotated=annotated.get(case)) for case, files in cases.items()}
    if not cases and not faults:
        is_known = description.file_ending in known_endings()
        remedy = f"Put images into imagesTr as CASE_0000{description.file_ending}" if is_known else endings_remedy()
        faults.append(Fault(str(folder), "there are no training cases", remedy))
    return RawDataset(folder, description, dict(sorted(cases.items())), tuple(faults), normalisation)


def find_cases(path: Path, description: DatasetDescription) -> dict[str, tuple[Path, ...]]:
    """Return the images to predict by case, given a file or a folder of files.

    Files named `CASE_0000`, `CASE_0001`, ... are the channels of a case; a file without such a number is a whole case (one channel, or
    all channels in 4D), and so is a lone picture `CASE_0000` with all colours. Given one file `CASE_0000` of several channels, the files of
    the other channels are found beside it.

    Raises:
        InputError: there is no image, channels are missing or superfluous, or a case is given twice; all faults are listed.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(Fault(str(path), "no such file or folder", "Check the path"))
    files = [file for file in (images_in(path) if path.is_dir() else _siblings(path, description)) if file.is_file()]
    if not files:
        raise InputError(Fault(str(path), "no image found", endings_remedy()))
    cases: dict[str, tuple[Path, ...]] = {}
    whole = [file for file in files if not _CHANNEL.match(stem_of(file))]
    numbered, faults = _group_channels((file for file in files if _CHANNEL.match(stem_of(file))), description)
    for file in whole:
        if stem_of(file) in cases or stem_of(file) in numbered:
            faults.append(_given_twice(stem_of(file), [*cases.get(stem_of(file), ()), *numbered.get(stem_of(file), ()), file]))
        cases[stem_of(file)] = (file,)
    raise_faults(faults)
    return dict(sorted((cases | numbered).items()))


def _siblings(file: Path, description: DatasetDescription) -> list[Path]:
    match = _CHANNEL.match(stem_of(file))
    if match is None or len(description.channels) == 1:
        return [file]
    return [file.with_name(f"{match['case']}_{index:04d}{ending_of(file)}") for index in range(len(description.channels))]


def _found_in_folders(folder: Path, description: DatasetDescription) -> tuple[dict[str, CaseFiles], list[Fault]]:
    missing = [
        Fault(str(folder / name), "the folder does not exist", f"Put the training {kind} there, as in nnU-Net's layout")
        for name, kind in (("imagesTr", "images"), ("labelsTr", "labels"))
        if not (folder / name).is_dir()
    ]
    raise_faults(missing)
    ending = description.file_ending
    images = images_in(folder / "imagesTr")
    faults = [
        Fault(str(file), "the name does not end with a channel number", f"Name it CASE_0000{ending}, CASE_0001{ending}, ...")
        for file in images
        if not _CHANNEL.match(stem_of(file))
    ]
    numbered, grouping = _group_channels((file for file in images if _CHANNEL.match(stem_of(file))), description)
    faults += grouping
    labels: dict[str, list[Path]] = defaultdict(list)
    for file in images_in(folder / "labelsTr"):
        labels[stem_of(file)].append(file)
    faults += [_given_twice(case, files) for case, files in labels.items() if len(files) > 1]
    faults += [
        Fault(f"case `{case}`", f"label file {files[0]} has no image", f"Add imagesTr/{case}_0000{ending} or remove the label")
        for case, files in labels.items()
        if case not in numbered and not grouping and not is_by_product(case, labels)
    ]
    expected = folder / "labelsTr"
    return {
        case: CaseFiles(files, labels.get(case, [expected / f"{case}{ending}"])[0]) for case, files in numbered.items()
    }, faults


def _group_channels(files: Iterable[Path], description: DatasetDescription) -> tuple[dict[str, tuple[Path, ...]], list[Fault]]:
    """Return the cases with complete channels, and the faults of the others."""
    groups: dict[str, dict[int, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for file in files:
        match = _CHANNEL.match(stem_of(file))
        if match:
            groups[match["case"]][int(match["channel"])].append(file)
    names = description.channels
    joined = {case: channels[0][0] for case, channels in groups.items() if _holds_all_channels(channels, len(names))}
    faults: list[Fault] = []
    for case, channels in groups.items():
        faults += [_given_twice(case, twice) for twice in channels.values() if len(twice) > 1]
        if case in joined:
            continue
        for index in range(len(names)):
            if index not in channels:
                problem = f"channel {index} ({names[index]}) is missing"
                faults.append(Fault(f"case `{case}`", problem, f"Add {case}_{index:04d}{description.file_ending}"))
        for index in sorted(set(channels) - set(range(len(names)))):
            problem = f"{channels[index][0].name} is channel {index}, but there are {len(names)} channels ({', '.join(names)})"
            faults.append(Fault(f"case `{case}`", problem, "Remove the file, or rename it CASE_0000 if it is a case by itself"))
    complete = {
        case: tuple(channels[index][0] for index in range(len(names)))
        for case, channels in groups.items()
        if set(channels) >= set(range(len(names)))
    }
    return complete | {case: (file,) for case, file in joined.items()}, faults


def _holds_all_channels(channels: Mapping[int, Sequence[Path]], number: int) -> bool:
    """Whether a case of several channels has one file, `CASE_0000`, which holds all of them: a picture, or a file whose header says so."""
    if number == 1 or set(channels) != {0} or len(channels[0]) > 1:
        return False
    (file,) = channels[0]
    if ending_of(file) in PICTURES:
        return True
    with suppress(InputError):
        return read_header(file)[0] == number
    return False


def _listed_by_case(
    folder: Path, listed: dict[str, Any], description: DatasetDescription
) -> tuple[dict[str, CaseFiles], list[Fault]]:
    """Return the cases of the `dataset` entry: case -> {"images": [paths], "label": path}, relative to the folder."""
    cases, faults = {}, []
    for case, entry in listed.items():
        images, label = (entry.get("images"), entry.get("label")) if isinstance(entry, dict) else (None, None)
        if not isinstance(label, str) or not isinstance(images, list) or not all(isinstance(path, str) for path in images):
            problem = "`dataset` in `dataset.json` does not list its files"
            faults.append(Fault(f"case `{case}`", problem, 'Use {"images": [one path per channel], "label": path}'))
            continue
        if len(images) not in (1, len(description.channels)):
            problem = f"`dataset.json` lists {len(images)} images for {len(description.channels)} channels"
            faults.append(Fault(f"case `{case}`", problem, "List one image per channel, or one 4D image"))
        cases[case] = CaseFiles(tuple(folder / path for path in images), folder / label)
    return cases, faults


def _listed_by_decathlon(
    folder: Path, listed: list[Any], description: DatasetDescription
) -> tuple[dict[str, CaseFiles], list[Fault]]:
    """Return the cases of the `training` entry: [{"image": path, "label": path}, ...], relative to the folder.

    Version 1 of nnU-Net writes such a list as well, in which `image` is the path of the files without their channel numbers.
    """
    cases: dict[str, CaseFiles] = {}
    faults = []
    for position, entry in enumerate(listed):
        if not isinstance(entry, dict) or not isinstance(entry.get("image"), str) or not isinstance(entry.get("label"), str):
            where = f"entry {position} of `training` in `dataset.json`"
            faults.append(Fault(where, "the entry does not list its files", 'Use {"image": path, "label": path}'))
            continue
        image, labels = folder / entry["image"], folder / entry["label"]
        numbered = _numbered_files(image, labels, len(description.channels))
        case = stem_of(labels) if numbered else stem_of(image)
        if case in cases:
            faults.append(_given_twice(case, [*cases[case].images, image]))
        cases[case] = CaseFiles(numbered or (image,), labels)
    return cases, faults


def _numbered_files(image: Path, labels: Path, channels: int) -> tuple[Path, ...]:
    """Return the files of each channel where a list means them: it names `CASE` or `CASE_0000`, and the labels are `CASE`; else none."""
    case, match = stem_of(labels), _CHANNEL.match(stem_of(image))
    files = tuple(image.with_name(f"{case}_{index:04d}{ending_of(image) or ''}") for index in range(channels))
    if match is not None and match["case"] == case:
        return files
    return files if stem_of(image) == case and not is_file(image) and is_file(files[0]) else ()


def _missing_files(cases: dict[str, CaseFiles]) -> list[Fault]:
    faults = []
    for case, files in cases.items():
        if files.labels is not None and not is_file(files.labels):
            remedy = "Add the label file or remove the case"
            faults.append(Fault(f"case `{case}`", f"label file {_missing(files.labels)}", remedy))
        faults += [
            Fault(f"case `{case}`", f"image file {_missing(path)}", "Add the image file or remove the case")
            for path in files.images
            if not is_file(path)
        ]
    return faults


def _missing(path: Path) -> str:
    try:
        return f"{path} is not a regular file" if path.exists() else f"{path} does not exist"
    except OSError as error:
        return f"{str(path)[:200]}... does not exist ({error.strerror})"


def _with_existing_files(cases: dict[str, CaseFiles]) -> dict[str, CaseFiles]:
    """Return the cases whose images exist, without missing label files."""
    return {
        case: CaseFiles(files.images, files.labels if files.labels is not None and is_file(files.labels) else None)
        for case, files in cases.items()
        if all(is_file(path) for path in files.images)
    }


def _clashing_names(cases: dict[str, CaseFiles]) -> list[Fault]:
    return [
        Fault(
            f"case `{case}{suffix}`",
            f"files of case `{case}` would have this name, because the store appends `{suffix}`",
            "Rename the case",
        )
        for case in cases
        for suffix in STORE_SUFFIXES
        if f"{case}{suffix}" in cases
    ]


def _given_twice(case: str, files: list[Path]) -> Fault:
    problem = f"the case is given twice: {' and '.join(str(file) for file in files)}"
    return Fault(f"case `{case}`", problem, "Keep one of the files or rename one case")
