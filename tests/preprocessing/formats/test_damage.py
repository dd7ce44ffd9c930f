"""Damaged files: one clear fault that names the file, never another error, a hang or a huge allocation."""

import gzip
import json
import os
import resource
import struct
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import tifffile

from configs.errors import InputError
from preprocessing.dataset.raw import open_dataset
from preprocessing.formats.images import read_header, read_image, read_labels, write_labels
from preprocessing.geometry.affine import Geometry
from tests.preprocessing.datasets import SHAPE, image, labels, make_dataset, save, write_json

UNREADABLE = "cannot be read"


def packed(path, content):
    path.write_bytes(gzip.compress(bytes(content)))


def raw(array=None):
    """The bytes of a sound NIfTI file."""
    return bytearray(nib.Nifti1Image(image() if array is None else array, np.eye(4)).to_bytes())


def with_header(path, form, offset, *values):
    """A NIfTI file whose header holds other values at an offset."""
    content = raw()
    struct.pack_into(form, content, offset, *values)
    packed(path, content)


def with_spacing(path, size):
    content = raw()
    struct.pack_into("<f", content, 280, size)  # srow_x
    packed(path, content)


def of_type(path, array):
    packed(path, raw(array))


def loop(path):
    path.symlink_to(path.name)


def device(path):
    path.symlink_to("/dev/zero")


def pipe(path):
    os.mkfifo(path)


def folder(path):
    path.mkdir()


def dangling(path):
    path.symlink_to("gone.nii.gz")


RGB = np.zeros(SHAPE, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
SOUND = gzip.compress(bytes(raw()))

# What is done to an image file, and what the message must say of it.
KINDS = {
    "empty": (lambda path: path.write_bytes(b""), UNREADABLE),
    "text": (lambda path: path.write_bytes(b"no image"), "not compressed by gzip"),
    "not_zipped": (lambda path: path.write_bytes(raw()), "not compressed by gzip"),
    "truncated": (lambda path: path.write_bytes(SOUND[: len(SOUND) // 2]), UNREADABLE),
    "truncated_in_the_header": (lambda path: path.write_bytes(SOUND[:100]), UNREADABLE),
    "without_checksum": (lambda path: path.write_bytes(SOUND[:-6]), "the compressed data end too early"),
    "wrong_checksum": (lambda path: path.write_bytes(SOUND[:-8] + bytes(4) + SOUND[-4:]), UNREADABLE),
    "flipped": (lambda path: path.write_bytes(SOUND[:3000] + b"\xff" + SOUND[3001:]), UNREADABLE),
    "trailing_garbage": (lambda path: path.write_bytes(SOUND + b"garbage"), UNREADABLE),
    "zipped_noise": (lambda path: packed(path, b"x" * 2000), "does not begin with a NIfTI header"),
    "header_only": (lambda path: packed(path, raw()[:352]), "its header states the shape"),
    "half_the_voxels": (lambda path: packed(path, raw()[:2000]), "its header states the shape"),
    "twenty_times_the_voxels": (lambda path: packed(path, raw() + bytes(2**22)), "more data than its header states"),
    "wrong_magic": (lambda path: with_header(path, "4s", 344, b"abc\0"), "magic word"),
    "wrong_header_size": (lambda path: with_header(path, "<i", 0, 349), "does not begin with a NIfTI header"),
    "unknown_type": (lambda path: with_header(path, "<h", 70, 32767), UNREADABLE),
    "offset_in_the_header": (lambda path: with_header(path, "<f", 108, 10.0), UNREADABLE),
    "offset_beyond_the_end": (lambda path: with_header(path, "<f", 108, 1e9), "the file holds"),
    "offset_nan": (lambda path: with_header(path, "<f", 108, float("nan")), UNREADABLE),
    "huge": (lambda path: with_header(path, "<4h", 40, 3, 32767, 32767, 32767), "the file holds"),
    "huge_in_seven_axes": (lambda path: with_header(path, "<8h", 40, 7, *[32767] * 7), "its shape is"),
    "negative_size": (lambda path: with_header(path, "<h", 42, -10), "its shape is"),
    "no_voxels": (lambda path: with_header(path, "<h", 44, 0), "its shape is"),
    "nine_axes": (lambda path: with_header(path, "<h", 40, 9), UNREADABLE),
    "zero_spacing": (lambda path: with_spacing(path, 0), "spacing must be three positive lengths"),
    "nan_spacing": (lambda path: with_spacing(path, float("nan")), "its geometry is unusable"),
    "infinite_spacing": (lambda path: with_spacing(path, float("inf")), "its geometry is unusable"),
    "sheared": (lambda path: with_header(path, "<f", 284, 0.5), "not at right angles"),
    "two_axes": (lambda path: of_type(path, image(0, SHAPE[:2])), "its shape is (10, 12)"),
    "five_axes": (lambda path: of_type(path, image(0, (4, 5, 6, 2, 2))), "its shape is (4, 5, 6, 2, 2)"),
    "complex": (lambda path: of_type(path, image().astype(np.complex64)), "values of type complex64 are not intensities"),
    "rgb": (lambda path: of_type(path, RGB), "are not intensities"),
    "nan_intercept": (lambda path: with_header(path, "<2f", 112, 1.0, float("nan")), UNREADABLE),
    "infinite_slope": (lambda path: with_header(path, "<f", 112, float("inf")), "scaled by an infinite number"),
    "symlink_loop": (loop, "does not exist"),
    "dangling_symlink": (dangling, "does not exist"),
    "device": (device, "not a regular file"),
    "pipe": (pipe, "not a regular file"),
    "folder": (folder, "not a regular file"),
}


def test_one_run_lists_all_of_them(tmp_path):
    """The command ends with code 2, one line for each file, in bounded memory."""
    data = make_dataset(tmp_path / "data", cases=1)
    for index, (name, (damage, _)) in enumerate(KINDS.items()):
        damage(data / f"imagesTr/{name}_0000.nii.gz")
        save(data / f"labelsTr/{name}.nii.gz", labels(), np.diag([1, 1, 1, 1.0 + index]))
    program = (
        "import planners.run, resource, sys; from planners.cli import main\n"
        "held = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = held(); code = main(); print(held() - before); sys.exit(code)"
    )
    run = [sys.executable, "-c", program, str(data), "--work", str(tmp_path / "work"), "--jobs", "1", "--quiet"]
    finished = subprocess.run(run, capture_output=True, text=True, check=False, timeout=300)
    assert finished.returncode == 2 and "Traceback" not in finished.stderr, finished.stderr
    assert int(finished.stdout) < 400_000  # KB, besides the libraries
    lines = [line for line in finished.stderr.splitlines() if line.startswith("  - ")]
    assert f"{len(lines)} faults in the input" in finished.stderr
    for name, (_, message) in KINDS.items():
        (line,) = (line for line in lines if f"`{name}`" in line)
        assert message in line, line
    assert len(lines) == len(KINDS) >= 25


def tif_without_spacing(path):
    tifffile.imwrite(path, labels().T)


def tif_with_spacing(path, text, array=None):
    tifffile.imwrite(path, labels().T if array is None else array)
    path.with_suffix(".json").write_text(text)


def detached_without_data(path):
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(labels()), str(path))
    path.with_suffix(".zraw").unlink(missing_ok=True)
    path.with_suffix(".raw").unlink(missing_ok=True)


def with_flipped_byte(path, data_ending=None, kept=None):
    """A compressed file of noise with a wrong byte in the last third, or without its end."""
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(image().astype(np.int16)), str(path), useCompression=True)
    damaged = path if data_ending is None else path.with_suffix(data_ending)
    content = bytearray(damaged.read_bytes())
    content[-len(content) // 3] ^= 0xFF
    damaged.write_bytes(content[:kept])


NRRD = "NRRD0004\ntype: {kind}\ndimension: {axes}\nsizes: {sizes}\nendian: little\nencoding: {encoding}\n\n"


def nrrd(path, kind="short", axes=3, sizes="10 12 14", encoding="raw", content=bytes(3360)):
    path.write_bytes(NRRD.format(kind=kind, axes=axes, sizes=sizes, encoding=encoding).encode() + content)


def meta(path, *changes, data=bytes(210)):
    """A sound MetaImage of 7 x 6 x 5 voxels, its header's lines replaced."""
    lines = {"ObjectType": "Image", "NDims": "3", "BinaryData": "True", "TransformMatrix": "1 0 0 0 1 0 0 0 1"}
    lines |= {"Offset": "0 0 0", "ElementSpacing": "1.25 1.5 3", "DimSize": "7 6 5", "ElementType": "MET_UCHAR"}
    for change in changes:
        lines |= change
    path.write_bytes(
        "".join(f"{name} = {value}\n" for name, value in lines.items()).encode() + b"ElementDataFile = LOCAL\n" + data
    )


def tif_in_a_circle(path):
    """Its first directory says that the next one is itself; tifffile reads it for minutes."""
    tif_with_spacing(path, '{"spacing": [1, 1, 1]}')
    content = bytearray(path.read_bytes())
    (first,) = struct.unpack_from("<I", content, 4)
    (entries,) = struct.unpack_from("<H", content, first)
    struct.pack_into("<I", content, first + 2 + 12 * entries, first)
    path.write_bytes(content)


OTHER_FORMATS = {
    "axes.mha": (lambda path: meta(path, {"NDims": "99999999999999999999 3"}), "`NDims` must be one whole number"),
    "many_axes.mha": (lambda path: meta(path, {"NDims": "11"}), "`NDims` must be given once, from 1 to 10"),
    "few_sizes.mha": (lambda path: meta(path, {"DimSize": "7 6"}), "`DimSize` must be 3 numbers"),
    "words.mha": (lambda path: meta(path, {"Offset": "0 nan 0"}), "`Offset` must be 3 numbers"),
    "long.mha": (lambda path: meta(path, {"Comment": "x" * 2000}), "is not `Name = value`"),
    "long_name.mha": (lambda path: meta(path, {"x" * 300: "1"}), "is not `Name = value`"),
    "no_value.mha": (lambda path: path.write_bytes(b"ObjectType = Image\n" + b"TransformMatrix\n" * 20), "is not `Name = value`"),
    "endless.mha": (lambda path: path.write_bytes(b"ObjectType = Image\n"), "does not end with `ElementDataFile`"),
    "printf.mha": (lambda path: path.write_bytes(b"ElementDataFile = %s%s%n a.raw\n"), "the name of its data file is not valid"),
    "printf.mhd": (lambda path: path.write_bytes(b"ElementDataFile = %03d%n 1 3 1\n"), "the name of its data file is not valid"),
    "printf.nhdr": (
        lambda path: path.write_bytes(b"NRRD0004\ndata file: %n%d 1 3 1\n"),
        "the name of its data file is not valid",
    ),
    "circle.tif": (tif_in_a_circle, "form a circle"),
    "no_version.tif": (lambda path: path.write_bytes(b"II" + bytes(100)), "unknown TIFF version 0"),
    "text.nrrd": (lambda path: path.write_bytes(b"no image"), UNREADABLE),
    "huge.nrrd": (lambda path: nrrd(path, sizes="100000 100000 100000"), "the file holds"),
    "huge_packed.nrrd": (lambda path: nrrd(path, sizes="9000 9000 9000", encoding="gzip"), "the file holds"),
    "short.nrrd": (lambda path: nrrd(path, content=bytes(100)), "the file holds"),
    "negative.nrrd": (lambda path: nrrd(path, sizes="10 -12 14"), UNREADABLE),
    "flat.nrrd": (lambda path: nrrd(path, axes=2, sizes="10 12"), "it has 2 axes"),
    "no_gzip.nrrd": (lambda path: nrrd(path, encoding="gzip"), UNREADABLE),
    "flipped.mha": (lambda path: with_flipped_byte(path), UNREADABLE),
    "flipped.mhd": (lambda path: with_flipped_byte(path, ".zraw"), UNREADABLE),
    "flipped.gipl.gz": (lambda path: with_flipped_byte(path), UNREADABLE),
    "truncated.gipl.gz": (lambda path: with_flipped_byte(path, kept=-30), UNREADABLE),
    "flipped.nrrd": (lambda path: with_flipped_byte(path), UNREADABLE),
    "empty.mha": (lambda path: path.write_bytes(b""), UNREADABLE),
    "no_data.mhd": (detached_without_data, "does not exist"),
    "empty.gipl": (lambda path: path.write_bytes(b""), UNREADABLE),
    "empty.tif": (lambda path: path.write_bytes(b""), UNREADABLE),
    "text.tiff": (lambda path: path.write_bytes(b"no image"), UNREADABLE),
    "alone.tif": (tif_without_spacing, "its spacing is not known: there is no alone.json beside it"),
    "bad_json.tif": (lambda path: tif_with_spacing(path, "{"), "not valid JSON"),
    "no_spacing.tif": (lambda path: tif_with_spacing(path, "{}"), "`spacing` must be three positive lengths, not None"),
    "two.tif": (lambda path: tif_with_spacing(path, '{"spacing": [1, 2]}'), "must be three positive lengths"),
    "zero.tif": (lambda path: tif_with_spacing(path, '{"spacing": [1, 0, 2]}'), "must be three positive lengths"),
    "nan.tif": (lambda path: tif_with_spacing(path, '{"spacing": [1, NaN, 2]}'), "must be three positive lengths"),
    "times.tif": (
        lambda path: tif_with_spacing(path, '{"spacing": [1, 1, 1]}', np.stack([labels()] * 2)),
        "its shape is (2, 10, 12, 14)",
    ),
}


@pytest.mark.parametrize("name", OTHER_FORMATS)
def test_other_formats(tmp_path, name):
    damage, message = OTHER_FORMATS[name]
    damage(tmp_path / name)
    with pytest.raises(InputError) as caught:
        read_labels(tmp_path / name)
    (fault,) = caught.value.faults
    assert str(tmp_path / name.split(".")[0]) in fault.where and message in str(fault) and "\n" not in str(fault)


def test_sound_headers_pass(tmp_path):
    """What the checks above let through: names that are ours to ignore, Windows' line ends, big TIFF."""
    meta(tmp_path / "a.mha", {"Comment": "a = b", "Seg.0_Name": "Leber, größer", "AnatomicalOrientation": "RAI"})
    assert read_labels(tmp_path / "a.mha")[0].shape == (5, 6, 7)
    content = (tmp_path / "a.mha").read_bytes()
    header, data = content[:-210], content[-210:]
    (tmp_path / "b.mha").write_bytes(header.replace(b"\n", b"\r\n") + data)
    assert read_labels(tmp_path / "b.mha")[0].shape == (5, 6, 7)
    (tmp_path / "c.json").write_text('{"spacing": [1, 1, 1]}')
    for order, big in (("<", False), (">", False), ("<", True), (">", True)):
        tifffile.imwrite(tmp_path / "c.tif", labels().T, bigtiff=big, byteorder=order)
        assert np.array_equal(read_labels(tmp_path / "c.tif")[0], labels().T)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd", ".gipl", ".tif"])
def test_any_byte_of_a_header_may_be_wrong(tmp_path, ending):
    """The file is read (some bytes say nothing that matters), or there is a fault that names it."""
    path = tmp_path / f"case{ending}"
    write_labels(path, labels((7, 8, 9)).T, Geometry.from_spacing((9, 8, 7), (3, 1.5, 1.25)))
    content = gzip.decompress(path.read_bytes()) if ending == ".nii.gz" else path.read_bytes()
    refused = 0
    for position in range(min(360, len(content))):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        path.write_bytes(gzip.compress(bytes(damaged), 1) if ending == ".nii.gz" else damaged)
        try:
            read_labels(path)
        except InputError as error:
            assert str(tmp_path) in str(error)
            refused += 1
    assert refused > 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4_000_000  # KB


JSON = {
    "empty": ("", "not valid JSON"),
    "truncated": ('{"labels": {', "not valid JSON"),
    "binary": (b"\xff\xfe\x00", "encoded as UTF-16"),
    "deep": ("[" * 100_000, "not valid JSON"),
    "list": ("[]", "not a JSON object"),
    "number": ("3", "not a JSON object"),
    "no labels": ({"labels": None}, "`labels` must map names to values"),
    "labels listed": ({"labels": ["a"]}, "`labels` must map names to values"),
    "no channels": ({"channel_names": {}}, "`channel_names` must name channels"),
    "fraction": ({"labels": {"background": 0, "a": 1.5}}, "labels"),
    "negative": ({"labels": {"background": 0, "a": -1}}, "must not be negative"),
    "too large": ({"labels": {"background": 0, "a": 10**30}}, "at most 2147483647"),
    "infinite": ('{"channel_names": {"0": "a"}, "labels": {"background": 0, "a": 1e999}}', "labels"),
    "ending": ({"file_ending": 3}, "file_ending"),
    "long name": ({"dataset": {"case": {"images": ["a" * 5000], "label": "b" * 5000}}}, "does not exist (File name too long)"),
    "cases listed": ({"dataset": {"case": ["a"]}}, "does not list its files"),
}


@pytest.mark.parametrize("name", JSON)
def test_wrong_descriptions(tmp_path, name):
    data = make_dataset(tmp_path / "data", cases=1)
    content, message = JSON[name]
    if isinstance(content, dict):
        write_json(data, **content)
    elif isinstance(content, str):
        (data / "dataset.json").write_text(content)
    else:
        (data / "dataset.json").write_bytes(content)
    with pytest.raises(InputError) as caught:
        open_dataset(data)
    assert message in str(caught.value) and ("dataset.json" in str(caught.value) or "case `case`" in str(caught.value))


def test_description_that_is_a_folder(tmp_path):
    data = make_dataset(tmp_path / "data", cases=1)
    (data / "dataset.json").unlink()
    (data / "dataset.json").mkdir()
    with pytest.raises(InputError, match=r"there is no `dataset.json`"):
        open_dataset(data)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd", ".gipl", ".tif"])
def test_headers_tell_the_grid(tmp_path, ending):
    path = tmp_path / f"case{ending}"
    write_labels(path, labels().T, Geometry.from_spacing(SHAPE[::-1], (3, 1.5, 1.25)))
    assert read_header(path) == (1, read_labels(path)[1])
    assert ending != ".tif" or json.loads((tmp_path / "case.json").read_text()) == {"spacing": [3, 1.5, 1.25]}


def test_scaled_big_endian_and_second_version(tmp_path):
    """What is unusual, but sound, is read."""
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    swapped = nib.Nifti1Image(array, np.eye(4)).header.as_byteswapped(">")
    scaled = nib.Nifti1Image(array, np.eye(4), swapped)
    scaled.header.set_slope_inter(2, -7)
    scaled.to_filename(tmp_path / "swapped.nii.gz")
    nib.Nifti2Image(array, np.eye(4)).to_filename(tmp_path / "second.nii.gz")
    stored = np.asarray(nib.load(tmp_path / "swapped.nii.gz").dataobj).T
    assert np.array_equal(read_image([tmp_path / "swapped.nii.gz"])[0][0], stored)
    assert np.array_equal(read_image([tmp_path / "second.nii.gz"])[0][0], array.T)
    (tmp_path / "members.nii.gz").write_bytes(gzip.compress(bytes(raw())[:900]) + gzip.compress(bytes(raw())[900:]) + bytes(9))
    assert np.array_equal(read_image([tmp_path / "members.nii.gz"])[0][0], image().T)
