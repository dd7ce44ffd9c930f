import gzip
import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import tifffile

from configs.errors import InputError
from preprocessing.formats.images import doubts, read_image, read_labels, write_labels, write_scalar
from preprocessing.geometry.affine import Geometry
from tests.preprocessing.datasets import affine, image, labels, save

OBLIQUE = affine((0.7, 1.3, 4.9), (0.3, -0.2, 0.5), "x")


def header_bits(path):
    header = nib.load(path).header
    fields = ("pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
    fields += ("srow_x", "srow_y", "srow_z", "xyzt_units")
    return [header[field].tobytes() for field in fields]


def test_reads_transposed(tmp_path):
    array = image()
    read, geometry = read_image([save(tmp_path / "a.nii.gz", array, OBLIQUE)])
    assert read.dtype == np.float32 and np.array_equal(read[0], array.T)
    assert geometry.shape == (14, 12, 10)
    assert np.allclose(geometry.spacing, (4.9, 1.3, 0.7))
    assert np.array_equal(geometry.matrix, nib.load(tmp_path / "a.nii.gz").affine)


def test_channels_from_files_and_from_volumes_agree(tmp_path):
    one, two = image(1), image(2)
    paths = [save(tmp_path / "a_0000.nii", one), save(tmp_path / "a_0001.nii.gz", two)]
    together = save(tmp_path / "b.nii.gz", np.stack([one, two], axis=-1))
    assert np.array_equal(read_image(paths)[0], read_image([together])[0])


@pytest.mark.parametrize(("qform", "sform"), [(1, 1), (1, 0), (0, 2), (2, 4), (0, 0)])
def test_nifti_geometry_survives_to_the_bit(tmp_path, qform, sform):
    source = nib.Nifti1Image(image(), None)
    source.header.set_zooms((0.7, 1.3, 4.9))
    if qform:
        source.header.set_qform(OBLIQUE, code=qform)
    if sform:
        source.header.set_sform(OBLIQUE + 1e-3, code=sform)
    source.header.set_xyzt_units("mm", "sec")
    nib.save(source, tmp_path / "a.nii.gz")
    _, geometry = read_image([tmp_path / "a.nii.gz"])
    write_labels(tmp_path / "seg.nii.gz", labels().T, geometry, like=tmp_path / "a.nii.gz")
    written = nib.load(tmp_path / "seg.nii.gz")
    assert header_bits(tmp_path / "a.nii.gz") == header_bits(tmp_path / "seg.nii.gz")
    assert np.array_equal(written.affine, nib.load(tmp_path / "a.nii.gz").affine)
    assert np.array_equal(np.asarray(written.dataobj), labels())
    assert written.get_data_dtype() == np.uint8


def test_header_of_a_scaled_image_does_not_scale_the_labels(tmp_path):
    source = nib.Nifti1Image(np.full((3, 4, 5), 7, np.int16), OBLIQUE)
    source.header.set_slope_inter(0.5, -3)
    nib.save(source, tmp_path / "a.nii.gz")
    assert np.allclose(read_image([tmp_path / "a.nii.gz"])[0], 0.5)
    geometry = Geometry.from_affine((5, 4, 3), OBLIQUE)
    write_labels(tmp_path / "seg.nii.gz", np.ones((5, 4, 3), np.int64), geometry, like=tmp_path / "a.nii.gz")
    read, _ = read_labels(tmp_path / "seg.nii.gz")
    assert read.dtype == np.uint8 and (read == 1).all()


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd", ".gipl", ".tif"])
def test_every_format_round_trips(tmp_path, ending):
    made = affine((1, 2, 3)) if ending in (".gipl", ".tif") else OBLIQUE
    geometry = Geometry.from_affine((14, 12, 10), made)
    write_labels(tmp_path / f"a{ending}", labels().T, geometry)
    read, read_geometry = read_labels(tmp_path / f"a{ending}")
    assert np.array_equal(read, labels().T)
    assert np.allclose(read_geometry.spacing, geometry.spacing, atol=1e-5)
    if ending not in (".gipl", ".tif"):  # they keep no direction
        assert np.allclose(read_geometry.matrix, geometry.matrix, atol=1e-5)


def test_formats_agree_on_the_same_image(tmp_path):
    """nibabel and SimpleITK put the same voxels at the same places."""
    path = save(tmp_path / "a.nii.gz", image(), OBLIQUE)
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(path)), str(tmp_path / "a.nrrd"))
    (nifti, nifti_geometry), (nrrd, nrrd_geometry) = read_image([path]), read_image([tmp_path / "a.nrrd"])
    assert np.array_equal(nifti, nrrd)
    assert np.allclose(nifti_geometry.matrix, nrrd_geometry.matrix, atol=1e-4)


def test_nrrd_geometry_survives_to_the_bit(tmp_path):
    path = save(tmp_path / "a.nii.gz", image(), OBLIQUE)
    source = SimpleITK.ReadImage(str(path))
    SimpleITK.WriteImage(source, str(tmp_path / "a.nrrd"))
    _, geometry = read_image([tmp_path / "a.nrrd"])
    write_labels(tmp_path / "seg.nrrd", labels().T, geometry, like=tmp_path / "a.nrrd")
    first, second = SimpleITK.ReadImage(str(tmp_path / "a.nrrd")), SimpleITK.ReadImage(str(tmp_path / "seg.nrrd"))
    assert first.GetOrigin() == second.GetOrigin()
    assert first.GetDirection() == second.GetDirection()
    assert first.GetSpacing() == second.GetSpacing()


@pytest.mark.parametrize(("largest", "dtype"), [(255, np.uint8), (256, np.int16), (40_000, np.int32)])
def test_smallest_integer_type(tmp_path, largest, dtype):
    geometry = Geometry.from_spacing((2, 2, 2), (1, 1, 1))
    write_labels(tmp_path / "a.nii.gz", np.full((2, 2, 2), largest), geometry)
    assert read_labels(tmp_path / "a.nii.gz")[0].dtype == dtype


def test_scalars_are_float32(tmp_path):
    geometry = Geometry.from_spacing((2, 3, 4), (1, 1, 1))
    volume = np.random.default_rng(0).normal(size=(2, 3, 4))
    write_scalar(tmp_path / "a.nii.gz", volume, geometry)
    assert np.array_equal(read_image([tmp_path / "a.nii.gz"])[0][0], volume.astype(np.float32))


def test_labels_stored_as_float(tmp_path):
    path = save(tmp_path / "a.nii.gz", labels().astype(np.float64))
    assert np.issubdtype(read_labels(path)[0].dtype, np.integer)
    path = save(tmp_path / "b.nii.gz", labels() * 0.5)
    with pytest.raises(InputError, match="whole numbers"):
        read_labels(path)
    path = save(tmp_path / "c.nii.gz", np.full((2, 2, 2), np.nan))
    with pytest.raises(InputError, match="whole numbers"):
        read_labels(path)


DAMAGED = [
    "truncated.nii.gz",
    "without_checksum.nii.gz",
    "flipped.nii.gz",
    "empty.nii.gz",
    "empty.nii",
    "text.nii.gz",
    "header_only.nii",
    "short.nii",
    "bad_type.nii",
    "not_zipped.nii.gz",
    "text.nrrd",
    "text.mha",
    "no_header.nii.gz",
]


def damaged_files(folder):
    sound = save(folder / "sound.nii.gz", image(), OBLIQUE).read_bytes()
    raw = gzip.decompress(sound)
    bad_type, flipped = bytearray(raw), bytearray(sound)
    bad_type[70:72] = b"\xff\x7f"
    flipped[len(flipped) // 2] ^= 0xFF
    return {
        "truncated.nii.gz": sound[: len(sound) // 2],
        "without_checksum.nii.gz": sound[:-6],
        "flipped.nii.gz": bytes(flipped),
        "empty.nii.gz": b"",
        "empty.nii": b"",
        "text.nii.gz": b"no image",
        "header_only.nii": raw[:200],
        "short.nii": raw[: len(raw) // 2],
        "bad_type.nii": bytes(bad_type),
        "not_zipped.nii.gz": raw,
        "text.nrrd": b"no image",
        "text.mha": b"",
        "no_header.nii.gz": gzip.compress(b"x" * 2000),
    }


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_one_clear_fault(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(damaged_files(tmp_path)[name])
    with pytest.raises(InputError) as caught:
        read_image([path])
    assert len(caught.value.faults) == 1
    fault = caught.value.faults[0]
    assert fault.where == str(path) and "cannot be read" in fault.problem and "\n" not in str(fault)


def test_missing_unknown_and_flat_files(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_image([tmp_path / "none.nii.gz"])
    (tmp_path / "a.gif").write_bytes(b"")
    with pytest.raises(InputError, match=r"unknown image format.*\.nrrd"):
        read_image([tmp_path / "a.gif"])
    with pytest.raises(InputError, match="Three axes"):
        read_image([save(tmp_path / "flat.nii.gz", np.ones((4, 5), np.float32))])
    with pytest.raises(InputError, match="one volume"):
        read_labels(save(tmp_path / "two.nii.gz", np.ones((4, 5, 6, 2), np.uint8)))


def test_all_channel_faults_at_once(tmp_path):
    (tmp_path / "b.nii.gz").write_bytes(b"")
    paths = [tmp_path / "a.nii.gz", save(tmp_path / "c.nii.gz", image()), tmp_path / "b.nii.gz"]
    with pytest.raises(InputError) as caught:
        read_image(paths)
    assert [fault.where for fault in caught.value.faults] == [str(paths[0]), str(paths[2])]


def test_nothing_half_written(tmp_path):
    geometry = Geometry.from_spacing((2, 2, 2), (1, 1, 1))
    with pytest.raises(ValueError, match="fit"):
        write_labels(tmp_path / "a.nii.gz", np.zeros((2, 2, 3), int), geometry)
    with pytest.raises(ValueError, match="32-bit"):
        write_labels(tmp_path / "a.nii.gz", np.full((2, 2, 2), 2**40), geometry)
    with pytest.raises(InputError, match="format"):
        write_labels(tmp_path / "a.gif", np.zeros((2, 2, 2), int), geometry)
    assert not list(tmp_path.iterdir())


def test_nrrd_of_channels_in_another_space_lends_its_geometry(tmp_path):
    """Directions as 3D Slicer and others write them: RAS, and none for the axis of channels."""
    fields = "type: uchar\ndimension: 4\nspace: right-anterior-superior\nsizes: 2 10 12 14\n"
    fields += "kinds: vector domain domain domain\nencoding: raw\n"
    directions = "space directions: none (0.31,0.1,0) (-0.1,0.31,0) (0,0,2.7)\nspace origin: (1.1,2.2,-3.3)\n\n"
    (tmp_path / "a.nrrd").write_bytes(f"NRRD0004\n{fields}{directions}".encode() + bytes(range(240)) * 14)
    read, geometry = read_image([tmp_path / "a.nrrd"])
    assert read.shape == (2, 14, 12, 10) and np.allclose(geometry.origin, (1.1, 2.2, -3.3))
    write_labels(tmp_path / "seg.nrrd", labels().T, geometry, like=tmp_path / "a.nrrd")
    written, grid = read_labels(tmp_path / "seg.nrrd")
    assert grid == geometry and np.array_equal(written, labels().T)
    assert b"space directions: (0.31,0.1,0) (-0.1,0.31,0) (0,0,2.7)" in (tmp_path / "seg.nrrd").read_bytes()


@pytest.mark.parametrize("compression", [None, "zlib", "LZW", "PackBits"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32])
def test_tiff_stacks(tmp_path, compression, dtype):
    """However they are compressed, with the spacing that nnU-Net puts beside them, which comes back to the bit."""
    array = (labels() * 50).astype(dtype).T
    if compression in (None, "zlib"):
        tifffile.imwrite(tmp_path / "case_1_0000.tif", array, compression=compression, photometric="minisblack")
    else:
        writer = SimpleITK.ImageFileWriter()
        writer.SetFileName(str(tmp_path / "case_1_0000.tif"))
        writer.SetCompressor(compression)
        writer.SetUseCompression(True)
        writer.Execute(SimpleITK.GetImageFromArray(array))
    (tmp_path / "case_1.json").write_text('{"spacing": [2.7, 0.1, 0.3]}')
    read, geometry = read_image([tmp_path / "case_1_0000.tif"])
    assert np.array_equal(read[0], array) and geometry == Geometry.from_spacing(array.shape, (2.7, 0.1, 0.3))
    write_labels(tmp_path / "out/case_1.tif", labels().T, geometry, like=tmp_path / "case_1_0000.tif")
    assert read_labels(tmp_path / "out/case_1.tif")[1] == geometry
    assert json.loads((tmp_path / "out/case_1.json").read_text()) == {"spacing": [2.7, 0.1, 0.3]}


def test_a_file_given_for_two_channels_is_told(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3), np.float32), np.eye(4)), tmp_path / "a.nii")
    (tmp_path / "link.nii").symlink_to(tmp_path / "a.nii")
    shutil.copy(tmp_path / "a.nii", tmp_path / "b.nii")
    assert doubts([tmp_path / "a.nii", tmp_path / "b.nii"]) == []
    for twice in ("a.nii", "link.nii"):
        (doubt,) = doubts([tmp_path / "a.nii", tmp_path / twice])
        assert "the same file is given for several channels" in str(doubt)
