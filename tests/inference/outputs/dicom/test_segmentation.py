"""Segmentation objects lie on the voxels of their series, whoever reads them, and keep the rules of DICOM."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from configs.dataset import Code, DatasetDescription, LabelCode
from configs.errors import InputError
from inference.outputs.dicom.segmentation import KINDS, DicomOutput, SegmentationKind, kind_faults, write_segmentation
from inference.sizes.calibration import Expected
from inference.sizes.quality import Quality
from preprocessing.dicom.find import find_series, write_lists
from preprocessing.formats.images import read_header
from preprocessing.geometry.affine import Geometry
from tests.inference.models import LABELS
from tests.preprocessing.dicom.making import LPS, affine_of, multi_frame, rotation, save, slices, volume

SHAPE = (6, 9, 7)
MODEL = "0123456789abcdef" * 4
REGIONS = DatasetDescription(
    name="regions", channels=("CT",), labels={"background": 0, "whole": (1, 2), "core": 2}, regions_class_order=(1, 2)
)
CODED = LABELS.model_copy(update={"codes": {"grey": LabelCode(value="78961009", scheme="SCT", meaning="Spleen")}})
LAYOUTS: dict[str, Callable[[NDArray, NDArray], list]] = {
    "files": slices,
    "files, reversed": lambda values, affine: slices(values, affine @ np.diag([1, 1, -1, 1])),
    "frames": lambda values, affine: [multi_frame(values, affine)],
    "frames, reversed": lambda values, affine: [multi_frame(values, affine @ np.diag([1, 1, -1, 1]))],
}
by_layout = pytest.mark.parametrize("layout", LAYOUTS)
by_kind = pytest.mark.parametrize("kind", KINDS)


def make_series(folder: Path, layout: str) -> tuple[Path, Geometry]:
    """The list of an oblique series, and its grid."""
    affine = affine_of((0.7, 0.9, 2.5), rotation(), (10.0, -20.0, 30.0))
    save(LAYOUTS[layout](volume(SHAPE), affine), folder / "in")
    ((listed,),) = write_lists(find_series(folder / "in").series, folder).values()
    return listed, read_header(listed)[1]


def some_labels(values: tuple[int, ...] = (3, 7)) -> NDArray[np.int32]:
    """Label values (Z, Y, X) without any symmetry, and slices without any."""
    labels = np.zeros(SHAPE, np.int32)
    labels[1:4, 2:5, 1:6] = values[0]
    labels[3, 4:8, 2] = values[-1]
    return labels


def positions_by_highdicom(path: Path) -> dict[int, set[tuple[float, ...]]]:
    """Places (x, y, z) in mm (left, posterior, superior) of the voxels of each segment."""
    import highdicom

    read = highdicom.seg.segread(path).get_volume(combine_segments=True)
    return {
        int(number): places((read.affine @ homogeneous(np.argwhere(read.array == number)))[:3])
        for number in np.unique(read.array[read.array > 0])
    }


def positions_by_hand(path: Path) -> dict[int, set[tuple[float, ...]]]:
    """The same from the elements of the file alone, by the formula of PS3.3 C.7.6.2.1.1."""
    dataset, found = pydicom.dcmread(path), dict[int, set[tuple[float, ...]]]()
    shared = dataset.SharedFunctionalGroupsSequence[0]
    along_row, along_column = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3)).astype(float)
    between_rows, between_columns = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    for frame, groups in zip(stored_frames(dataset), dataset.PerFrameFunctionalGroupsSequence, strict=True):
        first = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)[:, None]
        for number in np.unique(frame[frame > 0]):
            rows, columns = np.nonzero(frame == number)
            here = first + np.outer(along_row, columns * between_columns) + np.outer(along_column, rows * between_rows)
            segment = number if dataset.SegmentationType == "LABELMAP" else segment_of(groups, shared)
            found.setdefault(int(segment), set()).update(places(here))
    return found


def stored_frames(dataset: Dataset) -> NDArray[np.uint8]:
    shape = (dataset.NumberOfFrames, dataset.Rows, dataset.Columns)
    values = np.frombuffer(dataset.PixelData, np.uint8)
    values = np.unpackbits(values, bitorder="little") if dataset.BitsAllocated == 1 else values
    return values[: np.prod(shape)].reshape(shape)


def segment_of(*groups: Dataset) -> int:
    (named,) = [group.SegmentIdentificationSequence[0] for group in groups if "SegmentIdentificationSequence" in group]
    return int(named.ReferencedSegmentNumber)


def homogeneous(indices: NDArray) -> NDArray:
    return np.vstack([indices.T, np.ones(len(indices))])


def places(points: NDArray) -> set[tuple[float, ...]]:
    return {tuple(point) for point in np.round(points.T, 3) + 0.0}


def expected_places(labels: NDArray, geometry: Geometry, values: tuple[int, ...]) -> set[tuple[float, ...]]:
    indices = np.argwhere(np.isin(labels, values))[:, ::-1]
    return places((LPS @ geometry.matrix @ homogeneous(indices))[:3])


def nearly(one: set[tuple[float, ...]], other: set[tuple[float, ...]]) -> bool:
    """Whether the same places were meant, though roundings differ."""
    first, second = np.array(sorted(one)), np.array(sorted(other))
    return first.shape == second.shape and all(np.abs(second - point).max(1).min() < 2e-3 for point in first)


@by_kind
@by_layout
def test_segments_lie_on_their_voxels(tmp_path: Path, layout: str, kind: SegmentationKind) -> None:
    listed, geometry = make_series(tmp_path, layout)
    labels = some_labels()
    write_segmentation(tmp_path / "out.dcm", labels, listed, LABELS, DicomOutput(kind, MODEL))
    for read in (positions_by_highdicom, positions_by_hand):
        found = read(tmp_path / "out.dcm")
        assert sorted(found) == [1, 2]
        assert nearly(found[1], expected_places(labels, geometry, (3,)))
        assert nearly(found[2], expected_places(labels, geometry, (7,)))
        assert not nearly(found[1], expected_places(labels[::-1], geometry, (3,))), "the test would see a flip"


@by_layout
def test_regions_overlap(tmp_path: Path, layout: str) -> None:
    listed, geometry = make_series(tmp_path, layout)
    labels = some_labels((1, 2))
    write_segmentation(tmp_path / "out.dcm", labels, listed, REGIONS, DicomOutput("binary"))
    found = positions_by_hand(tmp_path / "out.dcm")
    assert nearly(found[1], expected_places(labels, geometry, (1, 2))) and nearly(
        found[2], expected_places(labels, geometry, (2,))
    )
    assert kind_faults(DicomOutput("labelmap"), REGIONS) and not kind_faults(DicomOutput("labelmap"), LABELS)


def test_the_object_refers_to_its_series_and_says_how_it_was_made(tmp_path: Path) -> None:
    listed, _ = make_series(tmp_path, "files")
    quality = Quality({"grey": Expected(0.91, 0.85, 0.95), "bright": None}, 1.0, ())
    write_segmentation(tmp_path / "out.dcm", some_labels(), listed, CODED, DicomOutput("binary", MODEL), quality)
    made, source = pydicom.dcmread(tmp_path / "out.dcm"), pydicom.dcmread(tmp_path / "in" / "IM0000")
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "FrameOfReferenceUID", "AccessionNumber"):
        assert made[keyword].value == source[keyword].value
    (referenced,) = made.ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == source.SeriesInstanceUID != made.SeriesInstanceUID
    assert len(referenced.ReferencedInstanceSequence) == SHAPE[0]
    grey, bright = made.SegmentSequence
    assert grey.SegmentDescription == "Label value 3; expected Dice 0.91 (0.85 to 0.95)"
    assert bright.SegmentDescription == "Label value 7; not found" and "0.91" in made.ContentDescription
    assert MODEL[:16] in made.ContentDescription
    (algorithm,) = grey.SegmentationAlgorithmIdentificationSequence
    assert (algorithm.AlgorithmName, grey.SegmentAlgorithmType) == (
        "se-unet",
        "AUTOMATIC",
    ) and MODEL in algorithm.AlgorithmParameters
    codes = [segment.SegmentedPropertyTypeCodeSequence[0] for segment in (grey, bright)]
    assert [(code.CodingSchemeDesignator, code.CodeValue, code.CodeMeaning) for code in codes] == [
        ("SCT", "78961009", "Spleen"),
        ("99SE_UNET", "7", "bright"),
    ]


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed")
@pytest.mark.parametrize("description", [CODED, REGIONS], ids=["codes", "regions"])
@by_layout
def test_the_validator_finds_no_error(tmp_path: Path, layout: str, description: DatasetDescription) -> None:
    listed, _ = make_series(tmp_path, layout)
    for name, labels in (("some", some_labels(description.values[1:])), ("none", np.zeros(SHAPE, np.int32))):
        path = tmp_path / f"{name}.dcm"
        write_segmentation(path, labels, listed, description, DicomOutput("binary", MODEL))
        assert not errors(path)


def errors(path: Path) -> list[str]:
    told = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, timeout=60).stderr
    return [line for line in told.splitlines() if line.startswith("Error")]


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed")
def test_the_validator_sees_an_error(tmp_path: Path) -> None:
    listed, _ = make_series(tmp_path, "files")
    write_segmentation(tmp_path / "out.dcm", some_labels(), listed, LABELS, DicomOutput("binary"))
    broken = pydicom.dcmread(tmp_path / "out.dcm")
    del broken.SegmentSequence[0].SegmentLabel
    broken.save_as(tmp_path / "broken.dcm")
    assert errors(tmp_path / "broken.dcm")


def test_series_without_the_patient_have_segmentations_too(tmp_path: Path) -> None:
    """De-identified files lack what others must have, though it may be empty."""
    listed, geometry = make_series(tmp_path, "files")
    for path in (tmp_path / "in").iterdir():
        image = pydicom.dcmread(path)
        for keyword in (
            "PatientName",
            "PatientID",
            "PatientBirthDate",
            "PatientSex",
            "AccessionNumber",
            "StudyDate",
            "SliceThickness",
        ):
            delattr(image, keyword)
        image.save_as(path)
    write_segmentation(tmp_path / "out.dcm", some_labels(), listed, LABELS, DicomOutput("binary"))
    assert nearly(positions_by_hand(tmp_path / "out.dcm")[1], expected_places(some_labels(), geometry, (3,)))


def test_only_what_was_kept_is_a_segment(tmp_path: Path) -> None:
    listed, _ = make_series(tmp_path, "files")
    labels = np.where(some_labels() == 7, 7, 0)
    write_segmentation(tmp_path / "out.dcm", labels, listed, LABELS, DicomOutput("binary"), roi=("bright",))
    assert [segment.SegmentLabel for segment in pydicom.dcmread(tmp_path / "out.dcm").SegmentSequence] == ["bright"]
    assert sorted(positions_by_hand(tmp_path / "out.dcm")) == [1]


def test_a_series_that_changed_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    listed, _ = make_series(tmp_path, "files")
    damaged = pydicom.dcmread(tmp_path / "in" / "IM0002")
    damaged.Rows = 5
    damaged.save_as(tmp_path / "in" / "IM0002")
    with pytest.raises(InputError, match=r"series `series_\w+`: no DICOM segmentation can be made of it"):
        write_segmentation(tmp_path / "out.dcm", some_labels(), listed, LABELS, DicomOutput("binary"))
    assert not list(tmp_path.glob("*.dcm")) and not list(tmp_path.glob(".partial*"))


@pytest.mark.parametrize(
    ("codes", "said"),
    [
        ({"blue": {"value": "1", "scheme": "SCT", "meaning": "x"}}, "names that are not labels: blue"),
        ({"grey": {"value": "1" * 17, "scheme": "SCT", "meaning": "x"}}, "at most 16 characters"),
        ({"grey": {"value": "1", "scheme": "SCT"}}, "Field required"),
    ],
)
def test_codes_of_a_dataset_are_checked(codes: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        DatasetDescription.model_validate(LABELS.model_dump() | {"codes": codes})


def test_codes_are_kept_in_files_and_descriptions_without_them_stay_as_they_were() -> None:
    again = DatasetDescription.model_validate_json(CODED.model_dump_json())
    assert again == CODED and again.codes["grey"].category == Code(
        value="123037004", scheme="SCT", meaning="Anatomical Structure"
    )
    assert "codes" not in LABELS.model_dump_json()
