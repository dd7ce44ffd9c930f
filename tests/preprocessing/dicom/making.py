"""DICOM series made from arrays, with a patient who must appear nowhere else."""

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

SECRETS = ("Erika^Mustermann", "PID-4711", "19630224", "Sankt-Blasius", "ACC-0815", "Dr^Quacksalber")
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
Change = Callable[[int, Dataset], object]
OBLIQUE = np.array([[0.9, -0.3, 0.31622777], [0.38, 0.89, -0.2511], [-0.2, 0.34, 0.91]])


def rotation(seed: int = 0) -> NDArray[np.float64]:
    """A right-handed rotation (3, 3) without any special direction."""
    turned, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return turned * np.sign(np.linalg.det(turned))


def affine_of(spacing: Sequence[float], direction: NDArray[np.float64], origin: Sequence[float]) -> NDArray[np.float64]:
    """The affine (4, 4) to RAS+ mm for spacings (x, y, z) and unit vectors in the columns of a direction (3, 3)."""
    affine = np.eye(4)
    affine[:3, :3] = direction * np.asarray(spacing)
    affine[:3, 3] = origin
    return affine


def patient(dataset: Dataset, series: str, study: str = "1.2.826.0.1.3680043.8.498.1") -> None:
    """What every file of a hospital says about the patient, the study and the scanner."""
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = SECRETS[:3]
    dataset.PatientSex, dataset.PatientAge, dataset.InstitutionName = "F", "061Y", SECRETS[3]
    dataset.AccessionNumber, dataset.ReferringPhysicianName, dataset.StudyID = SECRETS[4], SECRETS[5], "1"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = study, series, f"{study}.9"
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = dataset.AcquisitionDate = "20240229"
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = dataset.AcquisitionTime = "101112"
    dataset.Modality, dataset.SeriesNumber, dataset.Manufacturer = "CT", 3, "Maker"
    dataset.ManufacturerModelName, dataset.PositionReferenceIndicator, dataset.PatientPosition = "Scanner", "", "HFS"
    dataset.StudyDescription = dataset.SeriesDescription = "abdomen"


def blank(kind: str, instance: str) -> FileDataset:
    """An object of a kind without any content."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = kind, instance, ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = kind, instance
    return dataset


def pixels(dataset: Dataset, values: NDArray[np.int16], slope: float = 1.0, intercept: float = 0.0) -> None:
    """Store values of 16 bits with sign."""
    dataset.Rows, dataset.Columns = values.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 1
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = slope, intercept, "HU"
    dataset.PixelData = values.astype("<i2").tobytes()


def position(affine: NDArray[np.float64], index: int) -> list[float]:
    """ImagePositionPatient of a slice, in mm (left, posterior, superior)."""
    return [round(float(value), 10) for value in (LPS @ affine @ [0, 0, index, 1])[:3]]


def orientation(affine: NDArray[np.float64]) -> list[float]:
    """ImageOrientationPatient."""
    columns = (LPS @ affine)[:3, :2]
    return [round(float(value), 12) for value in (columns / np.linalg.norm(columns, axis=0)).T.ravel()]


def spacings(affine: NDArray[np.float64]) -> tuple[float, float, float]:
    """Spacings (x, y, z) in mm."""
    x, y, z = (float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
    return x, y, z


def slices(
    array: NDArray[np.int16], affine: NDArray[np.float64], series: str | None = None, **rescale: float
) -> list[FileDataset]:
    """A CT series of single files: stored values (Z, Y, X), one object for each slice."""
    series, (x, y, z) = series or generate_uid(), spacings(affine)
    made = []
    for index, values in enumerate(array):
        dataset = blank(CTImageStorage, generate_uid(entropy_srcs=[series, str(index)]))
        patient(dataset, series)
        pixels(dataset, values, **rescale)
        dataset.ImageType, dataset.InstanceNumber, dataset.AcquisitionNumber = ["ORIGINAL", "PRIMARY", "AXIAL"], index + 1, 1
        dataset.ImagePositionPatient, dataset.ImageOrientationPatient = position(affine, index), orientation(affine)
        dataset.PixelSpacing, dataset.SliceThickness, dataset.KVP = [round(y, 10), round(x, 10)], round(z, 10), "120"
        made.append(dataset)
    return made


def multi_frame(array: NDArray[np.int16], affine: NDArray[np.float64], series: str | None = None) -> FileDataset:
    """An enhanced CT series: all slices as frames of one file."""
    series, (x, y, z) = series or generate_uid(), spacings(affine)
    dataset = blank(EnhancedCTImageStorage, generate_uid(entropy_srcs=[series]))
    patient(dataset, series)
    pixels(dataset, array)
    dataset.NumberOfFrames, dataset.InstanceNumber = len(array), 1
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
        delattr(dataset, keyword)
    shared, measures, plane, rescale = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [round(y, 10), round(x, 10)], round(z, 10)
    plane.ImageOrientationPatient = orientation(affine)
    rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 2, -10, "HU"
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Items([measures]), Items([plane])
    shared.PixelValueTransformationSequence = Items([rescale])
    dataset.SharedFunctionalGroupsSequence = Items([shared])
    frames = []
    for index in range(len(array)):
        frame, place, content = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = position(affine, index)
        content.StackID, content.InStackPositionNumber = "1", index + 1
        content.DimensionIndexValues = [1, index + 1]
        frame.PlanePositionSequence, frame.FrameContentSequence = Items([place]), Items([content])
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = Items(frames)
    return dataset


def save(datasets: Sequence[FileDataset], folder: Path, names: Sequence[str] | None = None) -> Path:
    """Write objects as files, under names without an ending unless others are given."""
    for index, dataset in enumerate(datasets):
        path = folder / (names[index] if names else f"IM{index:04d}")
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(path, enforce_file_format=True)
    return folder


def zipped(folder: Path, path: Path) -> Path:
    """A ZIP file with the content of a folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(file for file in folder.rglob("*") if file.is_file()):
            archive.write(file, file.relative_to(folder))
    return path


def volume(shape: tuple[int, int, int] = (6, 9, 7), seed: int = 0) -> NDArray[np.int16]:
    """Values (Z, Y, X) that are all different, so that no flip or permutation goes unseen."""
    return np.random.default_rng(seed).permutation(np.arange(np.prod(shape), dtype=np.int16)).reshape(shape)
