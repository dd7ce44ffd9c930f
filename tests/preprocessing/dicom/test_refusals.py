"""Every odd or damaged series is refused with one clear line for each of its faults, and the others are still found."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import generate_uid

from configs.errors import InputError
from preprocessing.dicom.find import FoundSeries, find_series, write_lists
from preprocessing.dicom.series import case_name
from preprocessing.formats.images import read_image
from tests.preprocessing.dicom.making import SECRETS, affine_of, multi_frame, rotation, save, slices, volume

SPACING, ORIGIN = (0.7, 0.9, 2.5), (12.5, -30.25, 101.125)
Made = Sequence[FileDataset]


@dataclass(frozen=True)
class Odd:
    """How a sound series becomes an odd one, and what is said."""

    change: Callable[[list[FileDataset]], Made]
    said: str  # words of the message
    is_left_out: bool = False  # told as no volume, rather than as a fault
    has_frames: bool = False  # changes the only file of a multi-frame series


def each(**values: object) -> Callable[[list[FileDataset]], Made]:
    """Set attributes in all files; None deletes them."""
    return lambda made: [put(dataset, **values) for dataset in made]


def one(index: int = 2, **values: object) -> Callable[[list[FileDataset]], Made]:
    """Set attributes in one file."""
    return lambda made: [put(dataset, **values) if number == index else dataset for number, dataset in enumerate(made)]


def put(dataset: FileDataset, **values: object) -> FileDataset:
    for keyword, value in values.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


def moved(index: int, by: Sequence[float]) -> Callable[[list[FileDataset]], Made]:
    """Move one slice, in mm (left, posterior, superior)."""

    def change(made: list[FileDataset]) -> Made:
        place = np.array(made[index].ImagePositionPatient, float) + by
        made[index].ImagePositionPatient = [round(float(value), 8) for value in place]
        return made

    return change


def tilted(degrees: float) -> Callable[[list[FileDataset]], Made]:
    """Shear the slices as a tilted gantry does."""

    def change(made: list[FileDataset]) -> Made:
        for index, dataset in enumerate(made):
            moved(0, [0, 2.5 * index * np.tan(np.radians(degrees)), 0])([dataset])
        return made

    return change


def again(**values: object) -> Callable[[list[FileDataset]], Made]:
    """Add a second image at each place that differs in these attributes."""

    def change(made: list[FileDataset]) -> Made:
        copies = [put(deepcopy(dataset), SOPInstanceUID=generate_uid(), **values) for dataset in made]
        return [*made, *copies]

    return change


def frames(change: Callable[[FileDataset], object]) -> Callable[[list[FileDataset]], Made]:
    """Change the file of a multi-frame series."""

    def changed(made: list[FileDataset]) -> Made:
        change(made[0])
        return made

    return changed


def of_frame(index: int, group: str, **values: object) -> Callable[[list[FileDataset]], Made]:
    def change(dataset: FileDataset) -> None:
        put(getattr(dataset.PerFrameFunctionalGroupsSequence[index], group)[0], **values)

    return frames(change)


SECONDARY, REPORT = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.88.11"
TURNED = [0.8, 0.6, 0, -0.6, 0.8, 0]
ODD: dict[str, Odd] = {
    "second slice missing": Odd(
        lambda made: made[:1] + made[2:], "missing: 1 after 101.1 mm along the normal, where the spacing is 2.5 mm"
    ),
    "slice missing": Odd(lambda made: made[:3] + made[4:], "slices are missing: 1 after"),
    "two slices missing": Odd(lambda made: made[:2] + made[4:], "slices are missing: 2 after"),
    "slices missing in two places": Odd(lambda made: [made[0], *made[2:6], made[7]], "slices are missing: 2 after"),
    "file twice": Odd(lambda made: [*made, made[3]], "slices are repeated: 1 of 8 places"),
    "two files twice": Odd(lambda made: [*made, made[3], made[5]], "slices are repeated: 2 of 8 places"),
    "whole series twice": Odd(lambda made: [*made, *made], "slices are repeated: 8 of 8 places"),
    "slice three times": Odd(lambda made: [*made, made[1], made[1]], "slices are repeated: 1 of 8 places"),
    "two acquisitions": Odd(again(AcquisitionNumber=2), "2 acquisitions at each of 8 places, which differ in AcquisitionNumber"),
    "two echoes": Odd(again(EchoTime=12.5), "which differ in EchoTime"),
    "two phases": Odd(again(TemporalPositionIdentifier=2), "which differ in TemporalPositionIdentifier"),
    "diffusion": Odd(again(DiffusionBValue=1000.0), "which differ in DiffusionBValue"),
    "magnitude and phase": Odd(again(ImageType=["ORIGINAL", "PRIMARY", "P"]), "which differ in ImageType"),
    "uneven spacing": Odd(moved(4, [0, 0, 0.9]), "its slices are unevenly spaced, from 1.6 to 3.4 mm"),
    "thin and thick slices": Odd(lambda made: list(moved(6, [0, 0, 1.25])(made[:7])), "unevenly spaced, from 2.5 to 3.75 mm"),
    "growing spacing": Odd(
        lambda made: [moved(0, [0, 0, 0.1 * index**2])([dataset])[0] for index, dataset in enumerate(made)], "unevenly spaced"
    ),
    "gantry tilt": Odd(tilted(12), "the gantry was tilted: its slices are sheared by 12.00 degrees, and 0.3 are allowed"),
    "small gantry tilt": Odd(tilted(0.5), "sheared by 0.50 degrees"),
    "negative gantry tilt": Odd(tilted(-20), "sheared by 20.00 degrees"),
    "slice displaced sideways": Odd(moved(3, [1.5, 0, 0]), "displaced sideways by up to 1.5 mm"),
    "table moved": Odd(lambda made: [moved(0, [0, 3, 0])([each])[0] for each in made[:3]] + made[3:6] + made[6:], "sheared by"),
    "mixed orientations": Odd(one(ImageOrientationPatient=TURNED), "its images have mixed orientations, about 2 different ones"),
    "half turned": Odd(
        lambda made: [put(each, ImageOrientationPatient=TURNED) for each in made[:4]] + made[4:], "mixed orientations, about 2"
    ),
    "localiser": Odd(each(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "it is a localiser", is_left_out=True),
    "localiser among images": Odd(one(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "1 of its 8 files are localisers"),
    "mosaics": Odd(each(ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]), "8 of its 8 files are mosaics"),
    "secondary captures": Odd(each(SOPClassUID=SECONDARY), "it holds secondary captures", is_left_out=True),
    "multi-frame captures": Odd(each(SOPClassUID=f"{SECONDARY}.2"), "it holds secondary captures", is_left_out=True),
    "capture among images": Odd(one(SOPClassUID=SECONDARY), "1 of its 8 files are secondary captures"),
    "report": Odd(lambda made: [put(made[0], SOPClassUID=REPORT, Modality="SR", Rows=None)], "objects of the kind SR", True),
    "radiographs": Odd(
        each(Modality="CR", ImagePositionPatient=None), "of the kind CR, which have no place in the patient", True
    ),
    "images of the treatment beam": Odd(
        each(Modality="RTIMAGE", ImagePositionPatient=None), "of the kind RTIMAGE, which have no place in the patient", True
    ),
    "dose": Odd(each(Modality="RTDOSE"), "objects of the kind RTDOSE and no images", is_left_out=True),
    "presentation": Odd(lambda made: [put(made[0], Modality="PR", Columns=None)], "objects of the kind PR", True),
    "segmentation": Odd(each(Modality="SEG"), "objects of the kind SEG and no images", is_left_out=True),
    "several modalities": Odd(one(Modality="PT"), "its files have several modalities, CT, PT"),
    "colours": Odd(
        each(SamplesPerPixel=3, PhotometricInterpretation="RGB", BitsAllocated=8), "8 of its 8 files are not monochrome"
    ),
    "palette": Odd(each(PhotometricInterpretation="PALETTE COLOR"), "8 of its 8 files are not monochrome"),
    "coloured image": Odd(one(PhotometricInterpretation="YBR_FULL"), "1 of its 8 files are not monochrome"),
    "no position": Odd(each(ImagePositionPatient=None), "8 of its 8 images have no usable ImagePositionPatient (0020,0032)"),
    "one without position": Odd(one(ImagePositionPatient=None), "1 of its 8 images have no usable ImagePositionPatient"),
    "position of two numbers": Odd(one(ImagePositionPatient=[1, 2]), "1 of its 8 images have no usable ImagePositionPatient"),
    "no orientation": Odd(each(ImageOrientationPatient=None), "no usable ImageOrientationPatient (0020,0037)"),
    "no spacing": Odd(each(PixelSpacing=None), "no usable PixelSpacing (0028,0030)"),
    "nothing of all": Odd(
        each(ImagePositionPatient=None, ImageOrientationPatient=None, PixelSpacing=None, PhotometricInterpretation="RGB"),
        "ImagePositionPatient (0020,0032), ImageOrientationPatient (0020,0037), PixelSpacing (0028,0030)",
    ),
    "crooked directions": Odd(each(ImageOrientationPatient=[1, 0, 0, 0.5, 0.87, 0]), "no unit vectors at a right angle"),
    "directions of length 0": Odd(each(ImageOrientationPatient=[0, 0, 0, 0, 0, 0]), "no unit vectors at a right angle"),
    "spacing of 0": Odd(each(PixelSpacing=[0, 0.7]), "have a spacing outside of 1e-06 to 10000 mm"),
    "negative spacing": Odd(each(PixelSpacing=[-0.9, 0.7]), "have a spacing outside of"),
    "several spacings": Odd(one(PixelSpacing=[1.9, 1.7]), "several pixel spacings, from 0.9 to 1.9 mm"),
    "far away": Odd(one(ImagePositionPatient=[1e9, 0, 0]), "1 of its 8 images lie more than 1e+06 mm away"),
    "several sizes": Odd(
        lambda made: [*made[:7], put(made[7], Rows=3, Columns=21)], "several sizes, 3 x 21, 9 x 7 (rows x columns)"
    ),
    "several patients": Odd(one(PatientID="another"), "several patients or studies"),
    "several studies": Odd(one(StudyInstanceUID="1.2.3"), "several patients or studies"),
    "several frames of reference": Odd(one(FrameOfReferenceUID="1.2.3"), "several frames of reference"),
    "slope of 0": Odd(each(RescaleSlope=0), "8 of its 8 images have a RescaleSlope of 0"),
    "one without units": Odd(
        one(RescaleSlope=None, RescaleIntercept=None),
        "1 of its 8 images state no RescaleSlope and RescaleIntercept (0028,1052), un",
    ),
    "no Hounsfield units": Odd(
        each(RescaleSlope=None, RescaleIntercept=None, PixelRepresentation=0),
        "8 of its 8 files have unsigned values and state no",
    ),
    "parametric maps": Odd(each(SOPClassUID="1.2.840.10008.5.1.4.1.1.30"), "8 of its 8 files are parametric maps"),
    "modality table": Odd(each(ModalityLUTSequence=Items([Dataset()])), "8 of its 8 files have a Modality LUT"),
    "one slice without thickness": Odd(lambda made: [put(made[0], SliceThickness=None)], "it has one image, and neither"),
    "truncated pixels": Odd(lambda made: [*made[:7], put(made[7], PixelData=bytes(60))], "1 of its 8 files have fewer pixels"),
    "no pixels": Odd(one(PixelData=None), "1 of its 8 files have fewer pixels than their header states"),
    "huge claim": Odd(each(Rows=65535, Columns=65535), "8 of its 8 files have fewer pixels than their header states"),
    "many frames claimed": Odd(each(NumberOfFrames=90000), "8 of its 8 files have fewer pixels than their header states"),
    "more frames than anybody has": Odd(one(NumberOfFrames=2_000_000), "it claims 2000000 frames, at most 100000 are read"),
    "odd number of bits": Odd(each(BitsAllocated=12), "its pixels have 12 bits, and 16, 32, 8 are read"),
    "no images": Odd(one(Rows=None), "1 of its 8 files have no pixels"),
    "two multi-frame files": Odd(
        lambda made: [made[0], put(deepcopy(made[0]), SOPInstanceUID="1.2.3.4")],
        "it has 2 multi-frame files among 2",
        has_frames=True,
    ),
    "frames not described": Odd(
        frames(lambda made: made.PerFrameFunctionalGroupsSequence.pop()), "it has 8 frames, but describes 7", has_frames=True
    ),
    "frame without position": Odd(
        of_frame(3, "PlanePositionSequence", ImagePositionPatient=None),
        "1 of its 8 images have no usable ImagePos",
        has_frames=True,
    ),
    "frame moved": Odd(of_frame(3, "PlanePositionSequence", ImagePositionPatient=[9, 9, 9]), "slices are", has_frames=True),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All odd series and a sound one, each in a folder of its own."""
    root = tmp_path_factory.mktemp("odd")
    affine = affine_of(SPACING, np.eye(3), ORIGIN)
    for number, (name, odd) in enumerate(ODD.items()):
        values, series = volume((8, 9, 7)), series_of(name)
        sound = [multi_frame(values, affine, series)] if odd.has_frames else slices(values, affine, series)
        save(odd.change(sound), root / str(number))
    save(slices(volume(), affine_of(SPACING, rotation(), ORIGIN), "1.2.3"), root / "sound")
    return root


@pytest.fixture(scope="module")
def found(folder: Path) -> FoundSeries:
    return find_series(folder)


def series_of(name: str) -> str:
    return f"1.2.826.0.1.{list(ODD).index(name) + 1}"


def test_there_are_many() -> None:
    assert len(ODD) >= 60


@pytest.mark.parametrize("name", ODD)
def test_an_odd_series_is_refused(found: FoundSeries, name: str) -> None:
    case = case_name(series_of(name))
    expected, others = (found.left_out, found.faults) if ODD[name].is_left_out else (found.faults, found.left_out)
    told = [fault for fault in expected if fault.where == f"series `{case}`"]
    if "claims" in ODD[name].said or "describes" in ODD[name].said:  # files whose series is not known
        told = [fault for fault in expected if ODD[name].said in fault.problem]
    else:
        assert case not in found.series
    assert any(ODD[name].said in fault.problem for fault in told), "\n".join(map(str, told))
    assert all(fault.remedy and str(fault).isprintable() and len(str(fault)) < 300 for fault in told)
    assert not any(fault.where == f"series `{case}`" for fault in others)


def test_all_faults_are_found_at_once(found: FoundSeries) -> None:
    case = case_name(series_of("nothing of all"))
    assert len([fault for fault in found.faults if fault.where == f"series `{case}`"]) == 2


def test_the_others_are_found(found: FoundSeries, tmp_path: Path) -> None:
    """The sound one, and one whose only file with too many frames was put aside, which leaves a gap."""
    assert set(found.series) == {case_name("1.2.3")}
    ((listed,),) = write_lists(found.series, tmp_path).values()
    assert read_image([listed])[0].shape == (1, *volume().shape)


def test_no_message_tells_who_the_patient_is(found: FoundSeries) -> None:
    told = "\n".join(map(str, [*found.faults, *found.left_out]))
    assert not [secret for secret in SECRETS if secret in told]


def test_small_irregularities_are_accepted(tmp_path: Path) -> None:
    """Rounded positions, and a tilt that is no more than rounding."""
    affine = affine_of(SPACING, np.eye(3), ORIGIN)
    rounded = [
        put(dataset, ImagePositionPatient=[round(float(place), 1) for place in dataset.ImagePositionPatient])
        for dataset in slices(volume((8, 9, 7)), affine, "1.2.1")
    ]
    save(rounded, tmp_path / "rounded")
    save(tilted(0.1)(slices(volume((8, 9, 7)), affine, "1.2.2")), tmp_path / "tilted")
    save([put(slices(volume((1, 9, 7)), affine, "1.2.4")[0])], tmp_path / "single")
    found = find_series(tmp_path)
    assert len(found.series) == 3 and not found.faults


def test_other_files_are_passed_over(tmp_path: Path) -> None:
    save(slices(volume(), affine_of(SPACING, np.eye(3), ORIGIN), "1.2.3"), tmp_path / "a")
    (tmp_path / "README.txt").write_text("CT of the abdomen")
    (tmp_path / "a" / ".hidden").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "empty").touch()
    found = find_series(tmp_path)
    assert list(found.series) == [case_name("1.2.3")] and not found.faults
    with pytest.raises(InputError, match=r"README.txt: no DICOM file found"):
        find_series(tmp_path / "README.txt")
