"""Series and their labels become a dataset: labels of any kind lie on the voxels they were drawn on, and what does not fit is told."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from configs.errors import InputError
from preprocessing.dataset.raw import open_dataset
from preprocessing.dicom.cli import main
from preprocessing.dicom.dataset import make_dataset
from preprocessing.dicom.series import case_name
from preprocessing.formats.images import read_image, read_labels
from tests.preprocessing.datasets import validate
from tests.preprocessing.dicom.making import SECRETS, affine_of, multi_frame, rotation, save, slices, volume

SHAPE = (6, 9, 7)
AFFINE = affine_of((0.7, 0.9, 2.5), rotation(), (10.0, -20.0, 30.0))
ONE, TWO = "1.2.3", "1.2.4"
FIRST, SECOND = case_name(ONE), case_name(TWO)
by_kind = pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])


def drawn(number: int = 2) -> NDArray[np.uint8]:
    """Labels (Z, Y, X) from 1 to `number` without any symmetry."""
    labels = np.zeros(SHAPE, np.uint8)
    for value in range(1, number + 1):
        labels[value : value + 2, 2 : 4 + value, value:5] = value
    return labels


def segmentation(folder: Path, labels: NDArray, names: tuple[str, ...], kind: str = "BINARY") -> pydicom.Dataset:
    """A segmentation by highdicom of the series in a folder, whose slices are in order of their names."""
    described = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=codes.SCT.Spleen if name == "spleen" else codes.SCT.Liver,
            algorithm_type="MANUAL",
        )
        for number, name in enumerate(names, start=1)
    ]
    return highdicom.seg.Segmentation(
        source_images=[pydicom.dcmread(path) for path in sorted(folder.iterdir())],
        pixel_array=labels,
        segmentation_type=kind,
        segment_descriptions=described,
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="x",
        manufacturer_model_name="x",
        software_versions="1",
        device_serial_number="1",
    )


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two series in folders of their own: single files, and one file with frames."""
    save(slices(volume(SHAPE), AFFINE, ONE), tmp_path / "images" / "p1")
    save([multi_frame(volume(SHAPE, 1), AFFINE, TWO)], tmp_path / "images" / "p2")
    return tmp_path / "images"


@by_kind
def test_segmentations_lie_on_their_series(images: Path, tmp_path: Path, kind: str) -> None:
    """Numbers of segments differ between the files, their names do not."""
    save([segmentation(images / "p1", drawn(), ("spleen", "liver"), kind)], tmp_path / "labels" / "a")
    save([segmentation(images / "p2", drawn(), ("liver", "spleen"), kind)], tmp_path / "labels" / "b")
    make_dataset(images, tmp_path / "labels", tmp_path / "out")
    data = json.loads((tmp_path / "out" / "dataset.json").read_text())
    value = data["labels"]
    assert sorted(value.items()) == [("background", 0), ("liver", value["liver"]), ("spleen", value["spleen"])]
    expected = {
        FIRST: np.array([0, value["spleen"], value["liver"]])[drawn()],
        SECOND: np.array([0, value["liver"], value["spleen"]])[drawn()],
    }
    for case, labels in expected.items():
        found, grid = read_labels(tmp_path / "out" / "labelsTr" / f"{case}.nii.gz")
        assert np.array_equal(found, labels)
        image, other = read_image([tmp_path / "out" / "imagesTr" / f"{case}_0000.nii.gz"])
        assert grid == other and np.abs(other.matrix - AFFINE).max() < 1e-4
        assert np.array_equal(image[0], volume(SHAPE) if case == FIRST else 2 * volume(SHAPE, 1) - 10)
    assert data["channel_names"] == {"0": "CT"} and data["codes"]["spleen"]["value"] == "78961009"
    dataset = open_dataset(tmp_path / "out")
    assert validate(dataset) == [] and dataset.description.codes["spleen"].meaning == "Spleen"


@pytest.mark.parametrize("name", [FIRST, ONE, "p1"], ids=["case", "identifier", "folder"])
def test_label_files_are_turned_onto_their_series(images: Path, tmp_path: Path, name: str) -> None:
    """As they come from dcm2niix, whose rows run the other way, and under each name that a user may choose."""
    flipped = AFFINE @ np.array([[1, 0, 0, 0], [0, -1, 0, SHAPE[1] - 1], [0, 0, 1, 0], [0, 0, 0, 1]])
    (tmp_path / "labels").mkdir()
    nib.save(nib.Nifti1Image(drawn()[:, ::-1].T, flipped), tmp_path / "labels" / f"{name}.nii.gz")
    make_dataset(images, tmp_path / "labels", tmp_path / "out", names={"spleen": 1})
    assert np.array_equal(read_labels(tmp_path / "out" / "labelsTr" / f"{FIRST}.nii.gz")[0], drawn())
    data = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert data["labels"] == {"background": 0, "spleen": 1, "label_2": 2}
    assert sorted(path.name for path in (tmp_path / "out" / "imagesTr").iterdir()) == [f"{FIRST}_0000.nii.gz"]


def put_labels(folder: Path, name: str = FIRST, affine: NDArray = AFFINE, labels: NDArray | None = None) -> None:
    folder.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image((drawn() if labels is None else labels).T, affine), folder / f"{name}.nii.gz")


def overlapping(images: Path, labels: Path) -> None:
    masks = np.stack([drawn() > 0, drawn() > 1], axis=-1).astype(np.uint8)
    save([segmentation(images / "p1", masks, ("spleen", "liver"))], labels)


def fractional(images: Path, labels: Path) -> None:
    made = segmentation(images / "p1", drawn(1), ("spleen",))
    made.SegmentationType = "FRACTIONAL"
    save([made], labels)


def elsewhere(images: Path, labels: Path) -> None:
    made = segmentation(images / "p1", drawn(1), ("spleen",))
    place = made.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0]
    place.ImagePositionPatient = [float(value) + 1 for value in place.ImagePositionPatient]
    save([made], labels)


def truncated(images: Path, labels: Path) -> None:
    made = segmentation(images / "p1", drawn(1), ("spleen",))
    made.PixelData = made.PixelData[:8]
    save([made], labels)


def stranger(images: Path, labels: Path) -> None:
    made = segmentation(images / "p1", drawn(1), ("spleen",))
    made.ReferencedSeriesSequence[0].SeriesInstanceUID = "9.9"
    save([made], labels)


def both_kinds(images: Path, labels: Path) -> None:
    save([segmentation(images / "p1", drawn(1), ("spleen",))], labels)
    put_labels(labels, SECOND)


WRONG: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "overlapping": (overlapping, r"its segments overlap in \d+ voxels"),
    "fractional": (fractional, "it is of the type FRACTIONAL"),
    "elsewhere": (elsewhere, "its frames do not lie on the slices of the series"),
    "truncated": (truncated, "it has fewer pixels than its header states"),
    "of another series": (stranger, "is not among the images"),
    "both kinds": (both_kinds, "Name the values of the label files with --names"),
    "no labels": (lambda images, labels: labels.mkdir(), "no label file and no DICOM segmentation found"),
    "unknown name": (lambda images, labels: put_labels(labels, "p3"), "no series has this name"),
    "ambiguous name": (lambda images, labels: put_labels(labels, "images"), "no series has this name"),
    "two for one": (lambda images, labels: (put_labels(labels), put_labels(labels, "p1")), "it has 2 label files"),
    "other grid": (lambda images, labels: put_labels(labels, affine=np.eye(4)), "the label file has the spacing"),
    "other shape": (lambda images, labels: put_labels(labels, labels=drawn()[:3]), "the label file has the shape"),
}


@pytest.mark.parametrize("name", WRONG)
def test_labels_that_do_not_fit_are_refused(images: Path, tmp_path: Path, name: str) -> None:
    make, said = WRONG[name]
    make(images, tmp_path / "labels")
    with pytest.raises(InputError, match=said):
        make_dataset(images, tmp_path / "labels", tmp_path / "out")
    assert not (tmp_path / "out" / "dataset.json").exists() and not (tmp_path / "out" / "imagesTr").exists()


def test_a_dataset_that_exists_is_left_alone(images: Path, tmp_path: Path) -> None:
    put_labels(tmp_path / "labels")
    make_dataset(images, tmp_path / "labels", tmp_path / "out")
    with pytest.raises(InputError, match="the dataset already exists"):
        make_dataset(images, tmp_path / "labels", tmp_path / "out")
    (tmp_path / "out" / "dataset.json").unlink()
    make_dataset(images, tmp_path / "labels", tmp_path / "out")  # as after an interruption
    (tmp_path / "out" / "dataset.json").unlink()
    put_labels(tmp_path / "out" / "labelsTr", "other")
    with pytest.raises(InputError, match=r"it holds 1 file of other cases, such as other.nii.gz"):
        make_dataset(images, tmp_path / "labels", tmp_path / "out")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def call(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["se_dicom", *map(str, words)])
        return main()

    return call


def test_the_command(images: Path, tmp_path: Path, run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    put_labels(tmp_path / "labels")
    scout = slices(volume((1, 9, 7)), AFFINE, "1.2.9")
    scout[0].ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    save(scout, images / "scout")
    assert run("list", images) == 0
    told = capsys.readouterr().out
    assert f"{FIRST}: CT, 6 x 9 x 7 voxels, 2.5 x 0.9 x 0.7 mm (Z Y X), p1/IM0000" in told
    assert f"series `{case_name('1.2.9')}`: it is a localiser. It is left out. [scout/IM0000]" in told
    assert run("convert", images, "-o", tmp_path / "converted") == 0
    assert {path.name for path in (tmp_path / "converted").iterdir()} == {f"{FIRST}.nii.gz", f"{SECOND}.nii.gz"}
    assert run("dataset", images, "-o", tmp_path / "out", "--labels", tmp_path / "labels", "--names", "spleen=1", "liver=2") == 0
    assert json.loads((tmp_path / "out/dataset.json").read_text())["labels"] == {"background": 0, "spleen": 1, "liver": 2}
    written = [path for path in tmp_path.rglob("*") if path.is_file() and images not in path.parents]
    content = b"".join(path.read_bytes() + path.name.encode() for path in written)
    assert len(written) >= 6 and not [secret for secret in SECRETS if secret.encode() in content]


@pytest.mark.parametrize("names", [("a=1", "a=2"), ("a=1", "b=1"), ("background=1",)])
def test_names_must_be_unique(images: Path, tmp_path: Path, run: Callable[..., int], names: tuple[str, ...]) -> None:
    put_labels(tmp_path / "labels")
    assert run("dataset", images, "-o", tmp_path / "out", "--labels", tmp_path / "labels", "--names", *names) == 2
    assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit):
        run("dataset", images, "-o", tmp_path / "out", "--labels", tmp_path / "labels", "--names", "spleen=0")


def test_the_plan_has_the_codes_and_no_patient(images: Path, tmp_path: Path) -> None:
    """From DICOM files to the report: what is made of the dataset later knows no more than the dataset."""
    from configs.plan import Plan
    from planners import plan_and_preprocess
    from planners.options import PlanningOptions

    save([segmentation(images / "p1", drawn(), ("spleen", "liver"))], tmp_path / "labels" / "a")
    save([segmentation(images / "p2", drawn(), ("spleen", "liver"))], tmp_path / "labels" / "b")
    make_dataset(images, tmp_path / "labels", tmp_path / "out")
    options = PlanningOptions(networks=("baseline",), configurations=("3d_fullres",), patch_size=(8, 8, 8))
    plan_and_preprocess(tmp_path / "out", tmp_path / "work", options, jobs=1, plan_only=True)
    plan = Plan.read(tmp_path / "work" / "out" / "plan.json")
    assert plan.dataset.codes["spleen"].value == "78961009" and set(plan.dataset.codes) == {"spleen", "liver"}
    written = [path for part in ("out", "work") for path in (tmp_path / part).rglob("*") if path.is_file()]
    content = b"".join(path.name.encode() + path.read_bytes() for path in written)
    assert len(written) >= 10 and not [secret for secret in (*SECRETS, ONE, TWO) if secret.encode() in content]
