"""se_predict on folders and ZIP files of DICOM series: each is segmented, odd ones are told, and no patient is named anywhere."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from inference.prediction.cli import main
from preprocessing.dicom.series import case_name
from preprocessing.formats.images import read_labels
from tests.inference.models import many_classes, plan, write_model
from tests.preprocessing.dicom.making import SECRETS, affine_of, multi_frame, rotation, save, slices, volume, zipped

SHAPE = (8, 10, 9)
AFFINE = affine_of((1.0, 1.0, 1.5), rotation(), (1.0, 2.0, 3.0))
CASES = sorted([case_name("1.2.3"), case_name("1.2.4")])
Run = Callable[..., int]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model", ("0",))


@pytest.fixture
def hospital(tmp_path: Path) -> Path:
    """A folder with two sound series, one of them with frames, one with a gap, and a localiser; files are named after the patient."""
    folder = tmp_path / "export"
    names = [f"{SECRETS[0]}/{index}" for index in range(SHAPE[0])]
    save(slices(volume(SHAPE), AFFINE, "1.2.3"), folder, names)
    save([multi_frame(volume(SHAPE), AFFINE, "1.2.4")], folder / SECRETS[1])
    save(slices(volume(SHAPE), AFFINE, "1.2.5")[::3][:2] + slices(volume(SHAPE), AFFINE, "1.2.5")[4:], folder / "gap")
    scout = slices(volume((1, 10, 9)), AFFINE, "1.2.6")
    scout[0].ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    save(scout, folder / "scout")
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, model: Path) -> Run:
    def call(*arguments: object) -> int:
        words = ["se_predict", "-m", model, "--device", "cpu", "--fast", *arguments]
        monkeypatch.setattr(sys, "argv", list(map(str, words)))
        return main()

    return call


def test_series_are_segmented_and_the_others_told(
    run: Run, hospital: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    assert run("-i", hospital, "-o", out, "--dicom", "--preview", "--statistics") == 1, "one series was refused"
    assert f"series `{case_name('1.2.5')}`: slices are missing: 2 after" in caplog.text
    assert "1 series or files were refused" in caplog.text
    assert f"series `{case_name('1.2.6')}`: it is a localiser" in caplog.text
    assert sorted(path.name for path in out.glob("*.nii.gz")) == [f"{case}.nii.gz" for case in CASES]
    assert sorted(path.name for path in out.glob("*.dcm")) == [f"{case}.dcm" for case in CASES]
    for case in CASES:
        labels, _ = read_labels(out / f"{case}.nii.gz")
        stored = pydicom.dcmread(out / f"{case}.dcm")
        bits = np.unpackbits(np.frombuffer(stored.PixelData, np.uint8))
        assert bits.sum() == np.count_nonzero(labels)
    assert run("-i", hospital, "-o", out, "--continue") == 1, "names of cases are the same in every run"
    assert "2 of 2 cases already have a segmentation" in caplog.text


def test_segmentation_objects_are_those_of_the_segmentations(run: Run, hospital: Path, tmp_path: Path) -> None:
    """One that is missing is made when work is continued, and none of an earlier prediction is left."""
    series, out = hospital / SECRETS[1], tmp_path / "out"
    assert run("-i", series, "-o", out) == 0 and not list(out.glob("*.dcm"))
    assert run("-i", series, "-o", out, "--dicom", "--continue") == 0 and len(list(out.glob("*.dcm"))) == 1
    assert run("-i", series, "-o", out, "--no-mirror", "--step-size", 1) == 0 and not list(out.glob("*.dcm"))


def test_no_written_byte_tells_who_the_patient_is(
    run: Run, hospital: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """But for the segmentation objects, which must name the patient of their series."""
    out = tmp_path / "out"
    run("-i", hospital, "-o", out, "--dicom", "--preview", "--statistics", "--save-probabilities", "--verbose")
    (hospital / SECRETS[1] / "IM0000").write_bytes(bytes(128) + b"DICM" + b"\x08\x00\x18\x00UI\xff\xff" + SECRETS[0].encode())
    run("-i", hospital, "-o", out, "--dicom", "--verbose")
    written = [path for path in out.rglob("*") if path.is_file()]
    assert len(written) > 10
    found = {path.name: secrets_in(path.name.encode() + path.read_bytes()) for path in written}
    objects = {name for name in found if name.endswith(".dcm")}
    assert all(SECRETS[0] in found[name] and SECRETS[2] in found[name] for name in objects) and objects
    assert not [name for name in found if found[name] and name not in objects]
    assert not secrets_in("".join((*capfd.readouterr(), caplog.text)).encode())


def secrets_in(content: bytes) -> list[str]:
    return [secret for secret in (*SECRETS, SECRETS[0].split("^")[1]) if secret.encode() in content]


def test_a_zip_file_gives_the_same(run: Run, hospital: Path, tmp_path: Path) -> None:
    archive = zipped(hospital, tmp_path / "export.zip")
    assert run("-i", hospital, "-o", tmp_path / "one", "--dicom") == run("-i", archive, "-o", tmp_path / "two", "--dicom") == 1
    for case in CASES:
        one, two = ((tmp_path / name / f"{case}.nii.gz").read_bytes() for name in ("one", "two"))
        assert one == two


def test_a_multi_frame_file_is_an_input(run: Run, hospital: Path, tmp_path: Path) -> None:
    assert run("-i", hospital / SECRETS[1] / "IM0000", "-o", tmp_path / "out" / "a.nii.gz", "--dicom", "labelmap") == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("a*")) == ["a.dcm", "a.nii.gz"]


def refused(capfd: pytest.CaptureFixture[str]) -> str:
    told = capfd.readouterr().err
    assert "Traceback" not in told
    return told


def test_where_no_series_can_be_used_all_reasons_are_told(
    run: Run, hospital: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in (SECRETS[0], SECRETS[1]):
        for path in (hospital / name).iterdir():
            path.unlink()
    assert run("-i", hospital, "-o", tmp_path / "out") == 2
    told = refused(capfd)
    assert "2 faults in the input" in told and "localiser" in told and "slices are missing" in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--scheduler", "tcp://localhost:1"), "DICOM series are read by this process alone"),
        (("-o", "export"), "the segmentations would lie among the DICOM files"),
    ],
)
def test_what_does_not_go_with_dicom_is_said(
    run: Run,
    hospital: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    said: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(hospital.parent)
    assert run("-i", "export", "-o", "out", *words) == 2
    assert said in refused(capfd)


def test_other_input_is_not_taken_for_dicom(run: Run, tmp_path: Path, hospital: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from tests.preprocessing.datasets import image
    from tests.preprocessing.datasets import save as save_nifti

    save_nifti(tmp_path / "images" / "a_0000.nii.gz", image())
    assert run("-i", tmp_path / "images", "-o", tmp_path / "out", "--dicom") == 2
    assert "the input has no DICOM series that a DICOM segmentation could refer to" in refused(capfd)
    (tmp_path / "images" / "scan").write_bytes((hospital / "scout" / "IM0000").read_bytes())
    assert run("-i", tmp_path / "images", "-o", tmp_path / "out") == 2
    assert "the folder has both DICOM files and 1 images of other formats" in refused(capfd)


def test_several_channels_need_a_list(hospital: Path, tmp_path: Path) -> None:
    from configs.errors import InputError
    from inference.outputs.dicom.cases import dicom_cases

    description = plan(many_classes(3)).dataset.model_copy(update={"channels": ("T1", "T2")})
    with pytest.raises(InputError, match="one channel, but the model has 2: T1, T2"):
        dicom_cases(hospital, description, tmp_path, do_refer=False)


def test_what_a_segmentation_object_needs_is_asked_for_only_then(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = slices(volume(SHAPE), AFFINE, "1.2.3")
    for dataset in made:
        del dataset.FrameOfReferenceUID
    save(made, tmp_path / "in")
    assert run("-i", tmp_path / "in", "-o", tmp_path / "out", "--dicom") == 2
    assert "must name FrameOfReferenceUID, which the series lacks. Leave out --dicom" in refused(capfd)
    assert run("-i", tmp_path / "in", "-o", tmp_path / "out") == 0


def test_without_the_libraries_the_remedy_is_told(
    run: Run, hospital: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert run("-i", hospital, "-o", hospital.parent / "out") == 2
    assert "`pydicom` is not installed. Run pip install 'se-unet[dicom]'" in refused(capfd)
