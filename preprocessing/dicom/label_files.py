"""Find the labels of each series: DICOM segmentations say which series they refer to, other files are named after it."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from configs.errors import Fault, raise_faults
from preprocessing.dicom.find import FoundSeries, Series
from preprocessing.dicom.library import NoDicomError
from preprocessing.dicom.segments import SegmentationFile, read_segmentation
from preprocessing.dicom.series import ENDING, case_name
from preprocessing.dicom.source import dicom_names, source_of
from preprocessing.formats.registry import ending_of, stem_of

_NAMING = "Name it after the case that se_dicom list shows, the SeriesInstanceUID, or a folder that holds this series alone"


@dataclass(frozen=True)
class LabelFile:
    """Labels of one series."""

    where: str  # name in messages
    file: Path | SegmentationFile  # label file of another format, or DICOM segmentation


def match_labels(path: Path, found: FoundSeries) -> dict[str, LabelFile]:
    """Return the labels of each series by the name of its case, sorted.

    A label file of another format, such as `NAME.nii.gz`, belongs to the series whose case, SeriesInstanceUID or folder has that name.

    Raises:
        InputError: labels belong to no series or to one that is refused, or a series has several; all faults are listed.
    """
    faults: list[Fault] = []
    matched: dict[str, list[LabelFile]] = defaultdict(list)
    for case, one in [*_segmentations(path, faults), *_other_files(path, found, faults)]:
        if case in found.series:
            matched[case].append(one)
        else:
            state = "cannot be used" if case in found.places else "is not among the images"
            faults.append(Fault(one.where, f"its series `{case}` {state}", "Add the series, or remove the labels"))
    for case, several in matched.items():
        if len(several) > 1:
            problem = f"it has {len(several)} label files: {', '.join(one.where for one in several)}"
            faults.append(Fault(f"series `{case}`", problem, "Keep one of them"))
    if not matched and not faults:
        faults.append(Fault(str(path), "no label file and no DICOM segmentation found", "Give the folder with the labels"))
    raise_faults(faults)
    return {case: several[0] for case, several in sorted(matched.items())}


def _segmentations(path: Path, faults: list[Fault]) -> Iterator[tuple[str, LabelFile]]:
    if path.is_file() and ending_of(path):
        return
    source = source_of(path)
    for name in dicom_names(source):
        where = f"segmentation {name or path}"
        try:
            file = read_segmentation(source, name)
        except NoDicomError as error:
            faults.append(Fault(where, f"it cannot be read: {error}", "Copy the file again, or remove it"))
            continue
        if file is not None:
            yield case_name(file.series), LabelFile(where, file)


def _other_files(path: Path, found: FoundSeries, faults: list[Fault]) -> Iterator[tuple[str, LabelFile]]:
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    for file in files:
        if ending_of(file) in (None, ENDING):
            continue
        cases = _cases_named(stem_of(file), found.series)
        if len(cases) == 1:
            yield cases[0], LabelFile(str(file), file)
        else:
            problem = f"{len(cases)} series have this name" if cases else "no series has this name"
            faults.append(Fault(str(file), problem, _NAMING))


def _cases_named(name: str, series: dict[str, Series]) -> list[str]:
    exact = [case for case, one in series.items() if name in (case, one.identifier)]
    return exact or [case for case, one in series.items() if name in one.folders]
