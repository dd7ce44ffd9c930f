"""Make a dataset in nnU-Net's layout from DICOM series and their labels, or only convert the series."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.dataset import BACKGROUND, LabelCode
from configs.errors import Fault, InputError, collecting, counted, raise_faults
from configs.files import PARTIAL, list_folder, write_json
from configs.folders import DATASET as _DATASET
from configs.outputs import folder_faults
from configs.progress import Progress, Silent, ticking
from preprocessing.dataset.labels import present_values
from preprocessing.dicom.find import FoundSeries, Series, find_series, write_lists
from preprocessing.dicom.label_files import LabelFile, match_labels
from preprocessing.dicom.segments import SegmentationFile, labels_of
from preprocessing.formats.images import read_labels, read_volumes, write_labels
from preprocessing.formats.registry import format_of
from preprocessing.geometry.affine import Geometry
from preprocessing.geometry.same_grid import geometry_faults, turn_onto

logger = logging.getLogger(__name__)
_ENDING = ".nii.gz"


@dataclass
class Names:
    """Names of label values, to which files add theirs."""

    values: dict[str, int]  # label -> value, without the background
    codes: dict[str, LabelCode] = field(default_factory=dict)  # codes of labels, where segmentations state them

    def add_segments(self, file: SegmentationFile) -> None:
        """Name the segments of a file: by their number where it is free, or else by the next free value."""
        for segment in file.segments:
            taken = set(self.values.values())
            free = segment.number if segment.number not in taken else max(taken) + 1
            self.values.setdefault(segment.name, free)
            if segment.code is not None:
                self.codes.setdefault(segment.name, segment.code)

    def add_values(self, values: Iterable[int]) -> None:
        """Name values that have no name yet."""
        for value in sorted(set(values) - {0, *self.values.values()}):
            self.values[f"label_{value}"] = value


def convert(path: Path, folder: Path, progress: Progress | None = None) -> FoundSeries:
    """Write each series as `<case>.nii.gz`, in its units and on its grid.

    Returns:
        What was found. Series that are refused or left out are not written.

    Raises:
        InputError: nothing can be written or no series can be used, or images of a series are damaged; the others are written.
    """
    found = _found(path, folder)
    _write_all(found.series, lambda case: folder / f"{case}{_ENDING}", progress)
    return found


def make_dataset(
    path: Path,
    labels: Path,
    folder: Path,
    channel: str | None = None,
    names: Mapping[str, int] | None = None,
    progress: Progress | None = None,
) -> FoundSeries:
    """Write series with labels as a dataset: `imagesTr`, `labelsTr`, and at last `dataset.json`.

    Args:
        path: folder or ZIP file with DICOM series.
        labels: folder, ZIP file or file with the labels: DICOM segmentations, or label files named as `match_labels` says.
        folder: folder of the dataset.
        channel: name of the channel, which chooses the normalisation; None takes the modality.
        names: label -> value. Segments of other names get further values, and values of label files the name `label_VALUE`.
        progress: progress display over the cases.

    Returns:
        What was found. Series without labels are left out.

    Raises:
        InputError: labels do not belong to a series or lie on another grid, or the folder holds another dataset; all faults are listed.
    """
    found, faults, table = _found(path, folder), list[Fault](), Names(dict(names or {}))
    with collecting(faults):
        matched = match_labels(labels, found)
        _check_kinds(matched.values(), table)
    with collecting(faults):
        channel = channel or _modality(found.series)
    raise_faults([*found.faults, *faults] if faults else [])  # labels may belong to a series that is refused
    series = {case: one for case, one in found.series.items() if case in matched}
    for case in sorted(set(found.series) - set(series)):
        logger.warning("series `%s` is left out, since it has no labels", case)
    _check_folder(folder, series)
    _write_labels(matched, series, folder / "labelsTr", table)
    _write_all(series, lambda case: folder / "imagesTr" / f"{case}_0000{_ENDING}", progress)
    write_json(folder / _DATASET, _description(channel or "", table, len(series)))
    return found


def _found(path: Path, folder: Path) -> FoundSeries:
    """The series of the input, of which there is at least one, once it is known that their images can be written."""
    faults = [*folder_faults(folder)]
    if folder.resolve() == path.resolve():
        faults.append(Fault(str(folder), "the images would lie among the DICOM files", "Choose another output folder"))
    raise_faults(faults)
    found = find_series(path)
    if not found.series:
        raise InputError(*found.faults, *found.left_out)
    return found


def _check_folder(folder: Path, cases: Iterable[str]) -> None:
    """Refuse a folder that holds a dataset, or files of other cases; files of an interrupted run are replaced."""
    if (folder / _DATASET).exists():
        raise InputError(Fault(str(folder), "the dataset already exists", "Choose another output folder, or remove it"))
    own = {f"{case}{end}{_ENDING}" for case in cases for end in ("", "_0000")}
    present = [path for part in ("imagesTr", "labelsTr") for path in list_folder(folder / part, "*")]
    others = [path.name for path in present if path.name not in own and not path.name.startswith(PARTIAL)]
    if others:
        problem = f"it holds {counted(len(others), 'file')} of other cases, such as {others[0]}"
        raise InputError(Fault(str(folder), problem, "Choose an empty output folder"))


def _check_kinds(files: Iterable[LabelFile], table: Names) -> None:
    """Numbers of segments and values of label files may mean different things, unless the user names the values."""
    kinds = {isinstance(one.file, SegmentationFile) for one in files}
    if len(kinds) > 1 and not table.values:
        problem = "some labels are DICOM segmentations, which name their segments, and some are label files, which do not"
        raise InputError(Fault("the labels", problem, "Name the values of the label files with --names"))


def unique_names(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Return label -> value.

    Raises:
        InputError: a label or a value is given twice, or the background is named.
    """
    given = list(pairs)
    twice = [f"{name}={value}" for name, value in given if [one for one, _ in given].count(name) > 1]
    twice += [f"{name}={value}" for name, value in given if [one for _, one in given].count(value) > 1]
    reserved = [name for name, _ in given if name.casefold() == BACKGROUND]
    if twice or reserved:
        problem = f"a label or a value occurs twice: {', '.join(dict.fromkeys(twice))}" if twice else "the background is always 0"
        raise InputError(Fault("--names", problem, "Give each label one value of its own"))
    return dict(given)


def _modality(series: Mapping[str, Series]) -> str:
    found = sorted({one.modality for one in series.values()})
    if len(found) > 1:
        problem = f"the series have several modalities, {', '.join(found)}"
        raise InputError(Fault("the images", problem, "Name their channel with --channel, or make a dataset of each"))
    return found[0]


def _write_labels(matched: Mapping[str, LabelFile], series: Mapping[str, Series], folder: Path, table: Names) -> None:
    """Write the labels of all series on their grids, and name their values; then raise the faults of those that do not fit."""
    faults: list[Fault] = []
    for file in matched.values():
        if isinstance(file.file, SegmentationFile):
            table.add_segments(file.file)
    for case, file in matched.items():
        with collecting(faults):
            labels = _labels(file, series[case].geometry, table)
            table.add_values(present_values(labels))
            write_labels(folder / f"{case}{_ENDING}", labels, series[case].geometry)
    raise_faults(faults)


def _labels(file: LabelFile, geometry: Geometry, table: Names) -> NDArray[np.integer]:
    """Label values (Z, Y, X) on the grid of a series."""
    if isinstance(file.file, SegmentationFile):
        return labels_of(file.where, file.file, geometry, {one.number: table.values[one.name] for one in file.file.segments})
    labels, own = read_labels(file.file)
    turn = turn_onto(own, geometry)
    if turn is None:
        raise InputError(*geometry_faults(file.where, "the label file", own, geometry))
    return np.ascontiguousarray(turn.apply(labels))


def _write_all(series: Mapping[str, Series], place: Callable[[str], Path], progress: Progress | None) -> None:
    """Write the images of all series that can be read, then raise the faults of the others."""
    faults: list[Fault] = []
    with TemporaryDirectory() as room, ticking(progress or Silent(), "Converting", len(series)) as tick:
        for case, (listed,) in write_lists(dict(series), Path(room)).items():
            with collecting(faults):
                volumes, geometry = read_volumes(listed)
                format_of(place(case)).write(place(case), volumes[0], geometry, None)
            tick()
    raise_faults(faults)


def _description(channel: str, table: Names, cases: int) -> dict[str, Any]:
    """The content of `dataset.json`."""
    data: dict[str, Any] = {
        "channel_names": {"0": channel},
        "labels": {"background": 0} | dict(sorted(table.values.items(), key=lambda item: item[1])),
        "numTraining": cases,
        "file_ending": _ENDING,
    }
    return data | ({"codes": {name: code.model_dump() for name, code in table.codes.items()}} if table.codes else {})
