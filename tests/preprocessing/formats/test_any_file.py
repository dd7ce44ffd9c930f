"""Readers of images under arbitrary input: what was written comes back; what is no image is refused by an `InputError`."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs.errors import InputError
from preprocessing.formats.images import read_header, read_image, read_labels, write_labels, write_scalar
from preprocessing.geometry.affine import Geometry
from tests.preprocessing.datasets import affine

# The same examples each time, and none kept on disk.
steadily = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
ENDINGS = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd", ".nhdr")
SHAPES = st.tuples(*[st.integers(1, 6)] * 3)
SPACINGS = st.tuples(*[st.floats(1e-3, 1e3)] * 3)
ANGLES = st.tuples(*[st.floats(-3.1, 3.1)] * 3)
FLIPS = st.sets(st.sampled_from("xyz")).map("".join)
ORIGINS = st.tuples(*[st.floats(-1e5, 1e5)] * 3)
NUMBERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.floats(), st.sampled_from([0, 1, -1, 3, 2**15 - 1, 2**31, 1e-40, 3.4e38])
)


def survives(path: Path) -> bool:
    """Whether the file is read as an image; else it is refused for a reason that names it. Header and content must agree."""
    try:
        image, geometry = read_image([path])
    except InputError as error:
        assert error.faults and all(fault.where and fault.problem and fault.remedy for fault in error.faults)
        assert str(path) in str(error)
        return False
    assert image.dtype == np.float32 and image.shape[1:] == geometry.shape and min(geometry.spacing) > 0
    assert read_header(path) == (len(image), geometry)
    return True


@pytest.mark.parametrize("ending", ENDINGS)
@settings(steadily, max_examples=40)
@given(SHAPES, SPACINGS, ANGLES, FLIPS, ORIGINS, st.integers(0, 2**32 - 1))
def test_what_was_written_comes_back(tmp_path, ending, shape, spacing, angles, flips, origin, seed):
    matrix = affine(spacing, angles, flips)
    matrix[:3, 3] = origin
    geometry = Geometry.from_affine(shape, matrix)
    random = np.random.default_rng(seed)
    labels = random.integers(-5, 300, shape)
    write_labels(tmp_path / f"labels{ending}", labels, geometry)
    read, found = read_labels(tmp_path / f"labels{ending}")
    assert np.array_equal(read, labels) and found.shape == shape
    assert np.allclose(found.matrix, matrix, rtol=1e-5, atol=1e-5 * max(spacing))
    values = random.standard_normal(shape).astype(np.float32)
    write_scalar(tmp_path / f"scalar{ending}", values, geometry)
    image, again = read_image([tmp_path / f"scalar{ending}"])
    assert np.array_equal(image[0], values) and again == found
    assert read_header(tmp_path / f"scalar{ending}") == (1, found)


STARTS = (
    b"",
    b"NRRD0004\n",
    b"NRRD0005\ntype: uchar\n",
    b"ObjectType = Image\nNDims = 3\n",
    b"\x1f\x8b\x08\x00",
    b"II*\x00",
    b"MM\x00*",
)


@pytest.mark.parametrize("ending", [*ENDINGS, ".tif", ".gipl"])
@steadily
@given(st.sampled_from(STARTS), st.binary(max_size=400))
def test_any_bytes_are_an_image_or_refused(tmp_path, ending, start, rest):
    path = tmp_path / f"case{ending}"
    path.write_bytes(gzip.compress(start + rest, 1) if ending == ".nii.gz" and not start.startswith(b"\x1f") else start + rest)
    path.with_suffix(".json").write_text('{"spacing": [1, 1, 1]}')  # of a TIFF
    survives(path)


# Fields of the NIfTI-1 header: offset and form. https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h
FIELDS = {
    "dim": (40, "8h"),
    "datatype": (70, "2h"),
    "pixdim": (76, "8f"),
    "vox_offset": (108, "f"),
    "scl": (112, "2f"),
    "codes": (252, "2h"),
    "quatern": (256, "6f"),
    "srow": (280, "12f"),
}


def packed(form: str, number: float) -> bytes:
    """As C would store it: cut to the width."""
    if form == "f":
        with np.errstate(over="ignore"):
            return np.float32(number).tobytes()
    whole = int(number) if np.isfinite(number) else 0
    return (whole % 2**16).to_bytes(2, "little")


@steadily
@given(st.dictionaries(st.sampled_from(sorted(FIELDS)), st.lists(NUMBERS, min_size=1, max_size=8), min_size=1, max_size=3))
def test_any_numbers_in_a_nifti_header(tmp_path, changes):
    content = bytearray(nib.Nifti1Image(np.arange(210, dtype=np.int16).reshape(7, 6, 5), np.eye(4)).to_bytes())
    for name, numbers in changes.items():
        offset, form = FIELDS[name]
        for position, number in enumerate(numbers[: int(form[:-1] or 1)]):
            part = packed(form[-1], number)
            content[offset + position * len(part) : offset + (position + 1) * len(part)] = part
    (tmp_path / "case.nii").write_bytes(content)
    survives(tmp_path / "case.nii")


WORDS = st.one_of(
    NUMBERS.map(str),
    st.lists(st.integers(-2, 9), min_size=1, max_size=4).map(lambda found: " ".join(map(str, found))),
    st.sampled_from(
        ["uchar", "MET_SHORT", "True", "none", "raw", "gzip", "LOCAL", "(1,0,0) (0,1,0) (0,0,1)", "%s%n", "../x", ""]
    ),
    st.text(max_size=12),
)
NRRD = {
    "type": "uchar", "dimension": "3", "sizes": "3 2 1", "space": "left-posterior-superior", "encoding": "raw", "endian": "little",
    "space directions": "(1,0,0) (0,1,0) (0,0,1)", "space origin": "(0,0,0)", "kinds": "domain domain domain",
}  # fmt: skip
META = {
    "ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False", "CompressedData": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "0 0 0", "ElementSpacing": "1 1 1", "DimSize": "3 2 1",
    "ElementNumberOfChannels": "1", "ElementType": "MET_UCHAR", "ElementDataFile": "LOCAL",
}  # fmt: skip


def changed(fields):
    """Some of the fields with other values, and some left out."""
    values = st.one_of(st.none(), WORDS)
    return st.dictionaries(st.sampled_from(sorted(fields)), values, max_size=3).map(lambda given: fields | given)


def lines(fields, sign):
    return "".join(f"{name}{sign}{value}\n" for name, value in fields.items() if value is not None).encode("utf-8", "replace")


@steadily
@given(changed(NRRD))
def test_any_words_in_an_nrrd_header(tmp_path, fields):
    (tmp_path / "case.nrrd").write_bytes(b"NRRD0004\n" + lines(fields, ": ") + b"\n" + bytes(6))
    assert survives(tmp_path / "case.nrrd") or fields != NRRD


@steadily
@given(changed(META))
def test_any_words_in_a_metaimage_header(tmp_path, fields):
    (tmp_path / "case.mha").write_bytes(lines(fields, " = ") + bytes(6))
    assert survives(tmp_path / "case.mha") or fields != META
