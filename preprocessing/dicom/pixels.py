"""Stored values of images: uncompressed and run-length encoded by pydicom, JPEG, JPEG-LS and JPEG 2000 by GDCM in SimpleITK."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from preprocessing.dicom.codestream import stated_size
from preprocessing.dicom.library import NoDicomError, parse, unchecked, unparsable

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_BY_PYDICOM = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5")
_IMPLICIT = "1.2.840.10008.1.2"
_MULTI_FRAME_WORDS = "1.2.840.10008.5.1.4.1.1.7.3"  # an object without any meaning of its own, for the decoder
_KEPT = ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData")


def read_frames(content: bytes, shape: tuple[int, int], frames: Sequence[int]) -> Iterator[NDArray]:
    """Yield the stored values (rows, columns) of frames of a file, whole numbers of at most 32 bits.

    `shape` has the rows and columns that the frames must have; the numbers of the frames count from 0 and ascend.

    Raises:
        NoDicomError: the file does not hold these frames, or they are damaged.
    """
    dataset, _ = parse(content, pixels=True)
    try:
        with unchecked():
            _check(dataset, shape, max(frames))
            unused = dataset.BitsAllocated - dataset.BitsStored
            decoded = _by_pydicom(dataset, frames) if _syntax(dataset) in _BY_PYDICOM else _by_gdcm(dataset, frames)
        for frame in _one_by_one(decoded):
            yield _without_unused_bits(frame, unused)
    except NoDicomError:
        raise
    except unparsable() as error:
        raise NoDicomError(f"the pixels are damaged ({type(error).__name__})") from None


def _one_by_one(frames: Iterator[NDArray]) -> Iterator[NDArray]:
    """The frames, decoded within `unchecked`, which is left before each is handed out: whoever takes it may stop there."""
    while True:
        with unchecked():
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


def _check(dataset: "Dataset", shape: tuple[int, int], last: int) -> None:
    if (dataset.Rows, dataset.Columns) != shape or dataset.SamplesPerPixel != 1 or last >= _number_of_frames(dataset):
        raise NoDicomError("the file has changed")
    allocated, stored, high = dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit
    if allocated not in (8, 16, 32) or not 0 < stored <= allocated or high != stored - 1:
        raise NoDicomError(
            f"{allocated} bits are allocated and {stored} are stored up to bit {high}, which contradict each other"
        )


def _number_of_frames(dataset: "Dataset") -> int:
    return int(dataset.get("NumberOfFrames") or 1)


def _syntax(dataset: "Dataset") -> str:
    meta: Any = getattr(dataset, "file_meta", {})
    return str(meta.get("TransferSyntaxUID") or _IMPLICIT)


def _by_pydicom(dataset: "Dataset", frames: Sequence[int]) -> Iterator[NDArray]:
    from pydicom.pixels import iter_pixels
    from pydicom.uid import UID

    dataset.file_meta.TransferSyntaxUID = UID(_syntax(dataset))
    return iter_pixels(dataset, indices=list(frames), raw=True)


def _by_gdcm(dataset: "Dataset", frames: Sequence[int]) -> Iterator[NDArray]:
    """Hand the compressed frames to GDCM in a file of their own, without rescaling and whatever else it would apply."""
    import SimpleITK

    _check_codestreams(dataset)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frames.dcm"
        _frames_alone(dataset).save_as(path, enforce_file_format=True)
        volume = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path), imageIO="GDCMImageIO"))
    expected = (_number_of_frames(dataset), dataset.Rows, dataset.Columns)
    if volume.size != np.prod(expected):
        raise NoDicomError(f"the decoded frames have the shape {volume.shape}, not {expected}")
    return iter(volume.reshape(expected)[list(frames)])


def _check_codestreams(dataset: "Dataset") -> None:
    from pydicom.encaps import generate_frames

    number = _number_of_frames(dataset)
    sizes = [stated_size(frame) for frame in generate_frames(dataset.PixelData, number_of_frames=number)]
    expected = (dataset.Rows, dataset.Columns, 1)
    if len(sizes) != number or any(size != expected for size in sizes):
        raise NoDicomError("the compressed frames state another size or number than the header")


def _frames_alone(dataset: "Dataset") -> "Dataset":
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, generate_uid

    alone, meta = Dataset(), FileMetaDataset()
    for keyword in _KEPT:
        alone[keyword] = dataset[keyword]
    alone.SamplesPerPixel, alone.PhotometricInterpretation = 1, "MONOCHROME2"
    alone.NumberOfFrames = _number_of_frames(dataset)
    alone.SOPClassUID, alone.SOPInstanceUID = UID(_MULTI_FRAME_WORDS), generate_uid()
    meta.TransferSyntaxUID = UID(_syntax(dataset))
    alone.file_meta = meta
    return alone


def _without_unused_bits(frame: NDArray, unused: int) -> NDArray:
    """Stored values without what lies in the high bits of their words (PS3.5 8.1.1); the sign is extended."""
    return (frame << unused) >> unused if unused else frame
