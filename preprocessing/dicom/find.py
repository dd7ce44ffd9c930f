"""Find the series in a folder or ZIP file: those that are whole volumes, those that nobody would segment, and those with faults."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from configs.errors import Fault, InputError, collecting, counted, raise_faults
from preprocessing.dicom.header import DicomHeader, read_dicom_header
from preprocessing.dicom.library import NoDicomError, require_library
from preprocessing.dicom.rules import left_out_because, series_faults
from preprocessing.dicom.series import ENDING, ListedPlane, SeriesList, case_name
from preprocessing.dicom.source import (
    DicomFolder,
    DicomSource,
    dicom_names,
    doubtful_names,
    holds_dicom,
    is_archive,
    is_archive_name,
    source_of,
)
from preprocessing.dicom.stack import stack
from preprocessing.formats.gate import admit_geometry
from preprocessing.formats.registry import ending_of
from preprocessing.geometry.affine import Geometry

_DIRECTORY = "1.2.840.10008.1.3.10"  # an index of files, DICOMDIR
_LEFT_OUT = "It is left out"
_UNREADABLE = "Copy the file again, or remove it; se_dicom list shows its name"
_DOUBTFUL = "Unpack it or copy it again, or remove it; se_dicom list shows its name"


@dataclass(frozen=True)
class Series:
    """A series that is a whole volume."""

    listed: SeriesList  # its images in order
    geometry: Geometry  # its grid
    modality: str  # such as CT
    identifier: str  # SeriesInstanceUID
    lacks: tuple[str, ...]  # identifiers that an object which refers to the series needs, and that are missing

    @property
    def folders(self) -> set[str]:
        """Names of the folders on the way from the source to its files."""
        return {part for plane in self.listed.planes for part in PurePosixPath(plane.file).parent.parts}


@dataclass(frozen=True)
class FoundSeries:
    """What lies in a folder or ZIP file."""

    series: dict[str, Series] = field(default_factory=dict)  # whole volumes by the name of their case, sorted
    left_out: list[Fault] = field(default_factory=list)  # series that nobody would segment, with the reason
    faults: list[Fault] = field(default_factory=list)  # series that cannot be used, and files that cannot be read
    # the first file of each series by the name of its case, and files that cannot be read by their name in messages
    places: dict[str, str] = field(default_factory=dict)


def find_series(path: Path) -> FoundSeries:
    """Return the series of a folder with everything below it, of a ZIP file, or of a single file.

    Messages name neither files nor anything else that may tell who the patient is.

    Raises:
        InputError: there is no such path, the ZIP file is damaged, no file is a DICOM file, or pydicom is not installed.
    """
    source = source_of(path)
    names, found = dicom_names(source), FoundSeries()
    _tell_doubtful(source, names, found)
    if not names and not found.faults:
        remedy = "Give a folder, a ZIP file or a file with DICOM images"
        raise InputError(Fault(str(path), "no DICOM file found", remedy))
    require_library()
    by_series: dict[str, list[DicomHeader]] = defaultdict(list)
    for position, name in enumerate(names, start=1):
        header = _read(source, name, f"file {position} of {len(names)} by name", found)
        if header is not None:
            by_series[header.series].append(header)
    for identifier, headers in sorted(by_series.items(), key=lambda item: case_name(item[0])):
        name = case_name(identifier) if identifier else counted(len(headers), "DICOM file")
        found.places[name] = headers[0].file
        with collecting(found.faults):
            _sort_in(found, path, name, headers)
    return found


def is_dicom(path: Path) -> bool:
    """Return whether a path is to be read as DICOM: a ZIP file, a DICOM file, or a folder with DICOM files in it or below it.

    Raises:
        InputError: a folder has DICOM files beside images of other formats, so that it is not clear which ones are meant.
    """
    if not path.is_dir():
        return path.is_file() and not ending_of(path) and (is_archive(path) or holds_dicom(DicomFolder(path), [""]))
    others = [file.name for file in path.iterdir() if ending_of(file)]
    names = DicomFolder(path).names() if not others else [file.name for file in sorted(path.iterdir()) if file.is_file()]
    if not holds_dicom(DicomFolder(path), names):
        return not others and any(map(is_archive_name, names))
    if others:
        problem = f"the folder has both DICOM files and {len(others)} images of other formats"
        raise InputError(Fault(str(path), problem, "Move one kind to another folder"))
    return True


def write_lists(series: dict[str, Series], folder: Path) -> dict[str, tuple[Path, ...]]:
    """Write the list of each series into a folder, and return it as the only image file of its case."""
    lists = {case: folder / f"{case}{ENDING}" for case in series}
    for case, path in lists.items():
        series[case].listed.write(path)
    return {case: (path,) for case, path in lists.items()}


def _tell_doubtful(source: DicomSource, names: Sequence[str], found: FoundSeries) -> None:
    doubtful = doubtful_names(source, names)
    for position, (name, problem) in enumerate(doubtful.items(), start=1):
        where = f"other file {position} of {len(doubtful)} by name"
        found.faults.append(Fault(where, problem, _DOUBTFUL))
        found.places[where] = name


def _read(source: DicomSource, name: str, where: str, found: FoundSeries) -> DicomHeader | None:
    """The header of a file; None for an index of files, and with a fault for one that cannot be read."""
    try:
        header = read_dicom_header(source, name)
    except NoDicomError as error:
        found.faults.append(Fault(where, f"the DICOM file cannot be read: {error}", _UNREADABLE))
    except InputError as error:
        found.faults.extend(type(fault)(where, fault.problem, _UNREADABLE) for fault in error.faults)
    else:
        return None if header.kind == _DIRECTORY else header
    found.places[where] = name
    return None


def _sort_in(found: FoundSeries, path: Path, case: str, headers: Sequence[DicomHeader]) -> None:
    if not headers[0].series:
        problem = "SeriesInstanceUID (0020,000E) is missing, so that they may be truncated files of any series"
        raise InputError(Fault(case, problem, _UNREADABLE))
    where = f"series `{case}`"
    reason = left_out_because(headers)
    if reason is not None:
        found.left_out.append(Fault(where, reason, _LEFT_OUT))
        return
    raise_faults(series_faults(where, headers))
    found.series[case] = _volume(where, path, headers)


def _volume(where: str, path: Path, headers: Sequence[DicomHeader]) -> Series:
    """Put the images in order, and check what holds for images of all formats."""
    planes = [plane for header in headers for plane in header.planes]
    ordered = stack(where, planes)
    pixels = next(header.pixels for header in headers if header.pixels)
    geometry = admit_geometry(where, (len(planes), pixels.rows, pixels.columns), ordered.affine)
    listed = SeriesList(
        source=str(path.resolve()),
        planes=tuple(_listed(planes[index].file, planes[index].frame, planes[index].rescale) for index in ordered.order),
        rows=pixels.rows,
        columns=pixels.columns,
        affine=geometry.affine,
    )
    lacks = tuple(dict.fromkeys(keyword for header in headers for keyword in header.lacks))
    return Series(listed, geometry, headers[0].modality, headers[0].series, lacks)


def _listed(file: str, frame: int, rescale: tuple[float, ...] | None) -> ListedPlane:
    slope, intercept = rescale or (1.0, 0.0)
    return ListedPlane(file=file, frame=frame, slope=slope, intercept=intercept)
