"""Read DICOM segmentations as label values on the grid of the series that they refer to (PS3.3 C.8.20)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from configs.dataset import Code, LabelCode
from configs.errors import Fault, InputError, raise_faults
from preprocessing.dicom.header import UNCOMPRESSED, DicomHeader, Plane, read_dicom_header
from preprocessing.dicom.library import NoDicomError, parse, unchecked, unparsable
from preprocessing.dicom.source import DicomSource
from preprocessing.dicom.stack import TO_RAS, axes, is_orientation
from preprocessing.geometry.affine import Geometry
from preprocessing.geometry.same_grid import DIRECTION_TOLERANCE, ORIGIN_TOLERANCE

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

KINDS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # Segmentation, and Label Map Segmentation
_REMEDY = "Export the segmentation again, on the grid of its series"


@dataclass(frozen=True)
class Segment:
    """One structure of a segmentation."""

    number: int  # number in the file
    name: str  # label of the segment
    code: LabelCode | None  # what it is; None where a private scheme says so


@dataclass(frozen=True)
class SegmentationFile:
    """A segmentation object that has not been decoded yet."""

    source: DicomSource  # where it lies
    header: DicomHeader  # its size and the places of its frames
    series: str  # identifier of the series that it refers to
    segments: tuple[Segment, ...]  # its structures; the background of a label map is none


def read_segmentation(source: DicomSource, name: str) -> SegmentationFile | None:
    """Return what a DICOM file says about its segments, or None where it is no segmentation.

    Raises:
        NoDicomError: the file is damaged.
    """
    header = read_dicom_header(source, name)
    if header.kind not in KINDS:
        return None
    dataset, _ = parse(source.content(name))
    try:
        with unchecked():
            (referenced, *_) = dataset.ReferencedSeriesSequence
            segments = tuple(_segment(item) for item in dataset.SegmentSequence if int(item.SegmentNumber) > 0)
            return SegmentationFile(source, header, str(referenced.SeriesInstanceUID), segments)
    except unparsable() as error:
        raise NoDicomError(f"its segments or its series are not described ({type(error).__name__})") from None


def labels_of(where: str, file: SegmentationFile, geometry: Geometry, values: Mapping[int, int]) -> NDArray[np.int32]:
    """Return the label values (Z, Y, X) of a segmentation on the grid of its series.

    `geometry` is that grid, and `values` maps each segment number to its label value.

    Raises:
        InputError: the segmentation is fractional, lies on another grid, or its segments overlap.
    """
    pixels = file.header.pixels
    if pixels is None or not pixels.can_be_there:
        raise InputError(Fault(where, "it has fewer pixels than its header states", "Copy the file again"))
    if (pixels.rows, pixels.columns) != geometry.shape[1:]:
        problem = (
            f"its frames have {pixels.rows} x {pixels.columns} pixels and the images {geometry.shape[1]} x {geometry.shape[2]}"
        )
        raise InputError(Fault(where, problem, _REMEDY))
    places = [_slice_of(where, plane, geometry) for plane in file.header.planes]
    try:
        with unchecked():
            return _painted(where, parse(file.source.content(file.header.file), pixels=True)[0], places, geometry, values)
    except InputError:
        raise
    except unparsable() as error:
        raise InputError(Fault(where, f"it cannot be decoded ({type(error).__name__})", _REMEDY)) from None


def _painted(
    where: str, dataset: "Dataset", places: list[int], geometry: Geometry, values: Mapping[int, int]
) -> NDArray[np.int32]:
    labels, overlapping = np.zeros(geometry.shape, dtype=np.int32), 0
    for place, frame in zip(places, _frames(where, dataset, values), strict=True):
        overlapping += int(np.count_nonzero((labels[place] != 0) & (frame != 0) & (labels[place] != frame)))
        labels[place][frame != 0] = frame[frame != 0]
    if overlapping:
        problem = f"its segments overlap in {overlapping} voxels, and a label map holds one label for each voxel"
        raise InputError(Fault(where, problem, "Remove one of the segments, or correct them"))
    return labels


def _frames(where: str, dataset: "Dataset", values: Mapping[int, int]) -> Iterator[NDArray[np.int32]]:
    """Yield the label values (rows, columns) of each frame."""
    from pydicom.pixels import iter_pixels

    kind = str(dataset.get("SegmentationType"))
    if kind not in ("BINARY", "LABELMAP"):
        raise InputError(Fault(where, f"it is of the type {kind[:16]}", "Give a segmentation of the type BINARY or LABELMAP"))
    frames = _unpacked(dataset) if dataset.BitsAllocated == 1 else iter_pixels(dataset, raw=True)
    for number, frame in enumerate(frames):
        if kind == "BINARY":
            yield frame.astype(np.int32) * values[_segment_number(dataset, number)]
        else:
            table = np.array([values.get(stored, 0) for stored in range(int(frame.max()) + 1)], dtype=np.int32)
            yield table[frame]


def _unpacked(dataset: "Dataset") -> Iterator[NDArray[np.uint8]]:
    """Frames of single bits, which follow each other without gaps, so that a frame may begin within a byte (PS3.5 8.1.1)."""
    if dataset.file_meta.TransferSyntaxUID not in UNCOMPRESSED:
        raise NoDicomError("its bits are compressed")
    packed, each = np.frombuffer(dataset.PixelData, np.uint8), dataset.Rows * dataset.Columns
    for start in range(0, each * int(dataset.NumberOfFrames), each):
        bits = np.unpackbits(packed[start // 8 : (start + each + 7) // 8], bitorder="little")[start % 8 :][:each]
        yield bits.reshape(dataset.Rows, dataset.Columns)


def _segment_number(dataset: "Dataset", frame: int) -> int:
    shared = dataset.get("SharedFunctionalGroupsSequence") or [{}]
    for place in (dataset.PerFrameFunctionalGroupsSequence[frame], shared[0]):
        items = place.get("SegmentIdentificationSequence")
        if items:
            return int(items[0].ReferencedSegmentNumber)
    raise NoDicomError("a frame names no segment")


def _slice_of(where: str, plane: Plane, geometry: Geometry) -> int:
    """The slice of the series on which a frame lies exactly."""
    if plane.position is None or plane.orientation is None or not is_orientation(plane.orientation):
        raise InputError(Fault(where, "some of its frames have no place in the patient", _REMEDY))
    affine = TO_RAS @ geometry.matrix
    x, y, z = (np.linalg.inv(affine) @ [*plane.position, 1])[:3]
    directions = np.column_stack(axes(plane)[:2])
    turned = np.abs(directions - affine[:3, :2] / np.linalg.norm(affine[:3, :2], axis=0)).max() > 10 * DIRECTION_TOLERANCE
    off = max(abs(x), abs(y), abs(z - np.round(z)))
    if turned or off > ORIGIN_TOLERANCE or not 0 <= np.round(z) < geometry.shape[0]:
        raise_faults([Fault(where, "its frames do not lie on the slices of the series", _REMEDY)])
    return int(np.round(z))


def _segment(item: "Dataset") -> Segment:
    name = " ".join(str(item.get("SegmentLabel") or "").split()) or f"segment {item.SegmentNumber}"
    return Segment(int(item.SegmentNumber), name, _code(item))


def _code(item: "Dataset") -> LabelCode | None:
    try:
        (kind, *_), (category, *_) = item.SegmentedPropertyTypeCodeSequence, item.SegmentedPropertyCategoryCodeSequence
        found = LabelCode(**_words(kind), category=Code(**_words(category)))
    except unparsable():
        return None
    return None if found.scheme.startswith("99") else found


def _words(concept: "Dataset") -> dict[str, Any]:
    return {"value": str(concept.CodeValue), "scheme": str(concept.CodingSchemeDesignator), "meaning": str(concept.CodeMeaning)}
