"""Read from one file what decides whether and how its images join a volume. Nothing that names the patient is kept."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from preprocessing.dicom.library import NoDicomError, parse, unchecked, unparsable
from preprocessing.dicom.source import DicomSource

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MOST_HEADER = 32 * 2**20  # bytes of a file in front of its pixel data
_MOST_FRAMES = 100_000
UNCOMPRESSED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
_JPEG = tuple(f"1.2.840.10008.1.2.4.{kind}" for kind in (50, 51, 57, 70, 80, 81, 90, 91))  # JPEG, JPEG-LS, JPEG 2000
# Transfer syntaxes that are read, RLE and JPEG -> most bytes that one byte expands to.
COMPRESSED = {"1.2.840.10008.1.2.5": 64} | dict.fromkeys(_JPEG, 5_000)
_HEADER_OF_ELEMENT = 8  # bytes in front of the pixel data, and of each compressed frame, at least
_PIXEL_MACROS = {  # functional groups of multi-frame images that hold an attribute (PS3.3 C.7.6.16)
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "SpacingBetweenSlices": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
}
_MARKS = {  # what tells images at one place apart -> its functional group
    "AcquisitionNumber": "FrameContentSequence",
    "TemporalPositionIndex": "FrameContentSequence",
    "StackID": "FrameContentSequence",
    "TemporalPositionIdentifier": None,
    "EchoTime": None,
    "EchoNumbers": None,
    "EffectiveEchoTime": "MREchoSequence",
    "InversionTime": None,
    "FlipAngle": None,
    "TriggerTime": None,
    "NominalCardiacTriggerDelayTime": "CardiacSynchronizationSequence",
    "DiffusionBValue": "MRDiffusionSequence",
    "ImageType": None,
    "FrameType": "MRImageFrameTypeSequence",
}
_OWNERS = ("PatientID", "StudyInstanceUID")
HeaderNumbers = tuple[float, ...]


@dataclass(frozen=True)
class Plane:
    """One image: a file, or one frame of a multi-frame file. Lengths are in mm, directions in DICOM's axes (left, posterior, superior).

    Attributes:
        file: name of the file in its source.
        frame: number of the frame in its file, from 0.
        position: centre of the first pixel (3,), or None where it is missing or not three numbers.
        orientation: directions of increasing column and row index (6,), or None.
        spacing: distance between rows and between columns (2,), or None.
        thickness: distance to the next slice as the header states it, or None.
        rescale: slope and intercept from stored values to units (2,), or None where they are not numbers.
        states_rescale: whether the header states them; otherwise they are 1 and 0.
        marks: acquisition number, echo time and others, by attribute, in words.
    """

    file: str
    frame: int
    position: HeaderNumbers | None
    orientation: HeaderNumbers | None
    spacing: HeaderNumbers | None
    thickness: float | None
    rescale: HeaderNumbers | None
    states_rescale: bool
    marks: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Pixels:
    """How the pixels of a file are stored."""

    rows: int  # number of rows of an image
    columns: int  # number of columns
    frames: int  # number of images
    samples: int  # numbers in each pixel
    bits: int  # bits allocated for a number
    is_signed: bool  # whether numbers may be negative
    photometric: str  # photometric interpretation
    transfer_syntax: str  # identifier of the way of storage, "" where it is missing
    left: int  # bytes of the file from the pixel data on

    @property
    def can_be_there(self) -> bool:
        """Whether the rest of the file can hold so many pixels."""
        stated = math.ceil(self.rows * self.columns * self.frames * self.samples * self.bits / 8)
        left = self.left - _HEADER_OF_ELEMENT
        if self.transfer_syntax in COMPRESSED:
            return stated <= left * COMPRESSED[self.transfer_syntax] and self.frames * _HEADER_OF_ELEMENT <= left
        return stated <= left


@dataclass(frozen=True)
class Origin:
    """Where the images of a file come from."""

    owner: str  # checksum of the identifiers of patient and study, which are not kept themselves
    frame_of_reference: str  # identifier of the patient's position on the table, "" where it is missing


@dataclass(frozen=True)
class DicomHeader:
    """What one file states about its images."""

    file: str  # name of the file in its source
    series: str  # identifier of the series, "" where it is missing
    kind: str  # identifier of the kind of object (SOP class)
    modality: str  # such as CT
    image_type: tuple[str, ...]  # such as ORIGINAL, PRIMARY, AXIAL
    origin: Origin  # patient, study and position on the table
    pixels: Pixels | None  # None for objects that are no images
    planes: tuple[Plane, ...]  # the images; none where the file cannot hold them
    has_modality_table: bool  # whether a table takes the place of slope and intercept
    lacks: tuple[str, ...]  # identifiers that an object which refers to the file needs, and that are missing


def read_dicom_header(source: DicomSource, name: str) -> DicomHeader:
    """Read the header of a file.

    Raises:
        NoDicomError: the file cannot be parsed.
        InputError: the system cannot read it.
    """
    content = source.content(name, MOST_HEADER)
    dataset, place = parse(content)
    if place >= len(content) and len(content) < source.size(name):
        raise NoDicomError(f"its header has more than {MOST_HEADER} bytes")
    try:
        with unchecked():
            return _header(dataset, name, source.size(name) - place)
    except NoDicomError:
        raise
    except unparsable() as error:
        raise NoDicomError(f"its header cannot be used ({type(error).__name__})") from None


def _header(dataset: "Dataset", name: str, left: int) -> DicomHeader:
    meta: Any = getattr(dataset, "file_meta", {})
    pixels = _pixels(dataset, _text(meta.get("TransferSyntaxUID")), left)
    needed = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "FrameOfReferenceUID")
    return DicomHeader(
        file=name,
        series=_text(dataset.get("SeriesInstanceUID")),
        kind=_text(dataset.get("SOPClassUID")) or _text(meta.get("MediaStorageSOPClassUID")),
        modality=_text(dataset.get("Modality")) or "unknown",
        image_type=_words(dataset.get("ImageType")),
        origin=_origin(dataset),
        pixels=pixels,
        planes=_planes(dataset, name, pixels.frames) if pixels and pixels.can_be_there else (),
        has_modality_table=bool(dataset.get("ModalityLUTSequence")),
        lacks=tuple(keyword for keyword in needed if not _text(dataset.get(keyword))),
    )


def _origin(dataset: "Dataset") -> Origin:
    owner = "\n".join(_text(dataset.get(keyword)) for keyword in _OWNERS)
    return Origin(sha256(owner.encode()).hexdigest(), _text(dataset.get("FrameOfReferenceUID")))


def _pixels(dataset: "Dataset", transfer_syntax: str, left: int) -> Pixels | None:
    rows, columns = _whole(dataset.get("Rows")), _whole(dataset.get("Columns"))
    if not rows or not columns:
        return None
    frames = _whole(dataset.get("NumberOfFrames", 1)) or 1
    if not 1 <= frames <= _MOST_FRAMES:
        raise NoDicomError(f"it claims {frames} frames, at most {_MOST_FRAMES} are read")
    samples, bits = _whole(dataset.get("SamplesPerPixel", 1)) or 1, _whole(dataset.get("BitsAllocated")) or 0
    is_signed = _whole(dataset.get("PixelRepresentation")) == 1
    photometric = _text(dataset.get("PhotometricInterpretation"))
    return Pixels(rows, columns, frames, samples, bits, is_signed, photometric, transfer_syntax, left)


def _planes(dataset: "Dataset", name: str, frames: int) -> tuple[Plane, ...]:
    each = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [{}])[0]
    if len(each) not in (0, frames):
        raise NoDicomError(f"it has {frames} frames, but describes {len(each)}")

    def look_up(frame: int) -> Callable[[str, str | None], Any]:
        places = [each[frame], shared] if each else [shared]
        return lambda keyword, group: _find(dataset, places, keyword, group)

    return tuple(_plane(look_up(frame), name, frame) for frame in range(frames))


def _find(dataset: "Dataset", places: list[Any], keyword: str, group: str | None) -> Any:
    """The value of an attribute: in a functional group of the frame, in one that all frames share, or outside of them."""
    for place in places if group else []:
        items = place.get(group)
        if items and items[0].get(keyword) is not None:
            return items[0].get(keyword)
    return dataset.get(keyword)


def _plane(value: Callable[[str, str | None], Any], name: str, frame: int) -> Plane:
    def of(keyword: str) -> Any:
        return value(keyword, _PIXEL_MACROS[keyword])

    slope, intercept = (default if of(keyword) is None else of(keyword) for keyword, default in _RESCALE)
    thickness = _numbers(of("SpacingBetweenSlices"), 1) or _numbers(of("SliceThickness"), 1)
    marks = ((keyword, value(keyword, group)) for keyword, group in _MARKS.items())
    return Plane(
        file=name,
        frame=frame,
        position=_numbers(of("ImagePositionPatient"), 3),
        orientation=_numbers(of("ImageOrientationPatient"), 6),
        spacing=_numbers(of("PixelSpacing"), 2),
        thickness=None if thickness is None else abs(thickness[0]),
        rescale=_numbers([slope, intercept], 2),
        states_rescale=any(of(keyword) is not None for keyword, _ in _RESCALE),
        marks=tuple((keyword, str(found)) for keyword, found in marks if found is not None),
    )


_RESCALE = (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))


def _numbers(value: Any, number: int) -> HeaderNumbers | None:
    """So many finite numbers, or None."""
    try:
        values = [float(one) for one in (value if number > 1 else [value])]
    except (TypeError, ValueError):
        return None
    return tuple(values) if len(values) == number and all(map(math.isfinite, values)) else None


def _whole(value: Any) -> int | None:
    numbers = _numbers(value, 1)
    return None if numbers is None else int(numbers[0])


def _text(value: Any) -> str:
    return value.strip("\0 ") if isinstance(value, str) else ""


def _words(value: Any) -> tuple[str, ...]:
    return tuple(value.split("\\")) if isinstance(value, str) else tuple(str(word) for word in value or ())
