"""However a series is stored, its voxels keep their places: against the array it was made from, and against dcm2niix."""

import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from preprocessing.dicom.dataset import convert
from preprocessing.dicom.find import find_series, write_lists
from preprocessing.formats.images import read_header, read_image, read_volumes
from preprocessing.geometry.affine import Geometry
from preprocessing.geometry.same_grid import turn_onto
from tests.preprocessing.dicom.making import affine_of, multi_frame, rotation, save, slices, spacings, volume, zipped
from tests.repository.test_imports import ROOT

SPACING = (0.7, 0.9, 2.5)  # mm (x, y, z)
ORIGIN = (12.5, -30.25, 101.125)
AXIAL, SAGITTAL, CORONAL = np.eye(3), np.eye(3)[:, [2, 0, 1]], np.eye(3)[:, [0, 2, 1]]
DIRECTIONS = {
    "axial": AXIAL,
    "sagittal": SAGITTAL,
    "coronal, left-handed": CORONAL,
    "oblique": rotation(),
    "flipped columns": AXIAL * [-1, 1, 1],
    "flipped rows": AXIAL * [1, -1, 1],
    "reversed order": AXIAL * [1, 1, -1],
    "oblique, flipped": rotation(1) * [-1, 1, 1],
}
DATA = ROOT.parent / "shared" / "data"
IMAGES = {
    "CT": DATA / "Dataset291_TotalSegExampleCT/imagesTr/ts_example_0000.nii.gz",
    "spleen": DATA / "Dataset109_SpleenCrop/imagesTr/spleen_2_0000.nii.gz",
}
by_direction = pytest.mark.parametrize("name", DIRECTIONS)


def shuffled(number: int) -> list[str]:
    """Names of files in nested folders that say nothing about the order."""
    order = np.random.default_rng(1).permutation(number)
    return [f"{'abc'[index % 3]}/{index % 2}/{name:x}" for index, name in enumerate(order)]


def only_case(path: Path, room: Path) -> Path:
    """The list of the only series."""
    found = find_series(path)
    assert not found.faults and not found.left_out
    ((listed,),) = write_lists(found.series, room).values()
    return listed


def difference(geometry: Geometry, voxels: NDArray, expected: NDArray, affine: NDArray[np.float64]) -> float:
    """How far voxels lie from where they are expected, in mm; infinite where a value differs."""
    turn = turn_onto(geometry, Geometry.from_affine(expected.shape, affine))
    if turn is None or not np.array_equal(turn.apply(voxels), expected):
        return np.inf
    return float(np.abs(turn.apply_geometry(geometry).matrix - affine).max())


@by_direction
def test_single_files_in_any_order(tmp_path: Path, name: str) -> None:
    affine, values = affine_of(SPACING, DIRECTIONS[name], ORIGIN), volume()
    save(slices(values, affine, slope=2, intercept=-1024), tmp_path / "in", shuffled(len(values)))
    listed = only_case(tmp_path / "in", tmp_path)
    voxels, geometry = read_volumes(listed)
    assert voxels.dtype == np.int16
    assert difference(geometry, voxels[0], 2 * values - 1024, affine) < 1e-6
    assert read_header(listed) == (1, geometry)


@by_direction
def test_frames_of_one_file(tmp_path: Path, name: str) -> None:
    affine, values = affine_of(SPACING, DIRECTIONS[name], ORIGIN), volume()
    save([multi_frame(values, affine)], tmp_path / "in")
    voxels, geometry = read_volumes(only_case(tmp_path / "in" / "IM0000", tmp_path))
    assert difference(geometry, voxels[0], 2 * values - 10, affine) < 1e-6


def test_a_zip_file_and_its_folder_are_the_same(tmp_path: Path) -> None:
    values = volume()
    save(slices(values, affine_of(SPACING, rotation(), ORIGIN)), tmp_path / "in", shuffled(len(values)))
    path = zipped(tmp_path / "in", tmp_path / "export")
    (tmp_path / "room").mkdir()
    of_folder, of_zip = (read_image([only_case(each, tmp_path / "room")]) for each in (tmp_path / "in", path))
    assert np.array_equal(of_folder[0], of_zip[0]) and of_folder[1] == of_zip[1]


def test_the_measure_sees_what_it_looks_for() -> None:
    affine, values = affine_of(SPACING, AXIAL, ORIGIN), volume()
    geometry = Geometry.from_affine(values.shape, affine)
    assert difference(geometry, values, values, affine) == 0
    assert difference(geometry, values[::-1], values, affine) == np.inf
    moved = affine.copy()
    moved[0, 3] += 0.01
    assert difference(geometry, values, values, moved) == pytest.approx(0.01)


def test_each_slice_has_its_own_slope(tmp_path: Path) -> None:
    """As in PET."""
    values, slopes = volume(), [0.25 + 0.125 * index for index in range(6)]
    made = slices(values, affine_of(SPACING, AXIAL * [1, 1, -1], ORIGIN))
    for dataset, slope in zip(made, slopes, strict=True):
        dataset.RescaleSlope = slope
    save(made, tmp_path / "in", shuffled(6))
    (tmp_path / "room").mkdir()
    voxels, _ = read_volumes(only_case(tmp_path / "in", tmp_path / "room"))
    assert voxels.dtype == np.float32 and np.array_equal(voxels[0, ::-1], values * np.reshape(slopes, (6, 1, 1)))


@pytest.mark.parametrize("stored", [16, 12, 9])
def test_unused_bits_are_left_out(tmp_path: Path, stored: int) -> None:
    """High bits of a word may hold overlays, and the sign lies in the highest bit that is used."""
    values = np.random.default_rng(0).integers(-(2 ** (stored - 1)), 2 ** (stored - 1), (3, 4, 5))
    others = 0x5A5A & ~(2**stored - 1)
    words = (values.astype(np.uint16) & (2**stored - 1)) | others
    made = slices(words.astype(np.uint16).view(np.int16), affine_of(SPACING, AXIAL, ORIGIN))
    for dataset in made:
        dataset.BitsStored, dataset.HighBit = stored, stored - 1
    voxels, _ = read_volumes(only_case(save(made, tmp_path / "in"), tmp_path))
    assert np.array_equal(voxels[0], values)


@pytest.mark.parametrize("syntax", ["RLE", "JPEG-LS"])
def test_compressed_images_are_the_same(tmp_path: Path, syntax: str) -> None:
    from pydicom.uid import JPEGLSLossless, RLELossless

    values = volume((4, 16, 11))
    made = slices(values, affine_of(SPACING, AXIAL, ORIGIN))
    for dataset in made:
        dataset.compress({"RLE": RLELossless, "JPEG-LS": JPEGLSLossless}[syntax], generate_instance_uid=False)
    voxels, _ = read_volumes(only_case(save(made, tmp_path / "in"), tmp_path))
    assert np.array_equal(voxels[0], values)


COMPRESSED = ("MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm")
UNCOMPRESSED = ("MR_small_implicit.dcm", "MR_small_bigendian.dcm", "MR_small_expb.dcm", "MR_small_padded.dcm")


@pytest.mark.parametrize("name", [*COMPRESSED, *UNCOMPRESSED])
def test_files_of_pydicom_hold_one_image(tmp_path: Path, name: str) -> None:
    """The same slice in every kind of storage that is lossless."""
    import pydicom.data

    folder = Path(pydicom.data.__file__).parent / "test_files"
    expected = pydicom.dcmread(folder / "MR_small.dcm").pixel_array
    voxels, geometry = read_volumes(only_case(folder / name, tmp_path))
    assert np.array_equal(voxels[0, 0], expected) and geometry.shape == (1, 64, 64)


def niix(folder: Path, out: Path) -> tuple[NDArray, NDArray[np.float64]]:
    """What dcm2niix makes of a folder: voxels (z, y, x) and affine."""
    out.mkdir()
    subprocess.run(["dcm2niix", "-f", "x", "-o", str(out), str(folder)], check=True, capture_output=True, timeout=60)
    image = nib.load(out / "x.nii")
    assert isinstance(image, nib.Nifti1Image)
    return np.asarray(image.dataobj).T, image.affine


def real(name: str) -> tuple[NDArray[np.int16], tuple[float, float, float]]:
    """Intensities (Z, Y, X) of a real image, and its spacings (x, y, z)."""
    image = nib.load(IMAGES[name])
    assert isinstance(image, nib.Nifti1Image)
    return np.round(np.asarray(image.dataobj).T).astype(np.int16)[:12, :48, 3:60], spacings(image.affine)


@pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="dcm2niix is not installed")
@pytest.mark.skipif(not all(path.is_file() for path in IMAGES.values()), reason=f"{DATA} has not the real images")
@pytest.mark.parametrize("make", [slices, lambda values, affine: [multi_frame(values, affine)]], ids=["files", "frames"])
@pytest.mark.parametrize("image", IMAGES)
@by_direction
def test_geometry_is_that_of_dcm2niix(tmp_path: Path, name: str, image: str, make: Callable[..., Sequence]) -> None:
    values, spacing = real(image)
    save(make(values, affine_of(spacing, DIRECTIONS[name], ORIGIN)), tmp_path / "in", shuffled(len(values))[: len(values)])
    (case,) = convert(tmp_path / "in", tmp_path / "out").series
    voxels, geometry = read_volumes(tmp_path / "out" / f"{case}.nii.gz")
    theirs, affine = niix(tmp_path / "in", tmp_path / "niix")
    assert difference(geometry, voxels[0], theirs, affine) < 1e-4


OF_PYDICOM = ("MR_small.dcm", "CT_small.dcm", "693_J2KI.dcm", "examples_overlay.dcm", "dicomdirtests/98892001/CT5N")


@pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="dcm2niix is not installed")
@pytest.mark.parametrize("name", OF_PYDICOM)
def test_files_of_pydicom_have_the_geometry_of_dcm2niix(tmp_path: Path, name: str) -> None:
    import pydicom.data

    source = Path(pydicom.data.__file__).parent / "test_files" / name
    (tmp_path / "in").mkdir()
    for file in source.iterdir() if source.is_dir() else [source]:
        shutil.copy(file, tmp_path / "in")
    voxels, geometry = read_volumes(only_case(tmp_path / "in", tmp_path))
    theirs, affine = niix(tmp_path / "in", tmp_path / "niix")
    assert difference(geometry, voxels[0], theirs, affine) < 1e-4
