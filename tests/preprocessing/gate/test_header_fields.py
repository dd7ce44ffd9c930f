"""Random contradictions between the fields of a NIfTI header never pass silently, and no agreement is refused."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from configs.errors import InputError
from preprocessing.formats.images import doubts, read_header, read_image
from preprocessing.geometry.affine import Geometry
from tests.preprocessing.datasets import affine, rotation
from tests.preprocessing.gate.kinds import SHAPE, values

steadily = settings(
    max_examples=400, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
MOST = 5.1e-3  # what rounding may make of a short axis
SPACINGS = st.tuples(*[st.floats(0.2, 8)] * 3)
ANGLES = st.tuples(*[st.floats(-3.1, 3.1)] * 3)
FACTORS = st.tuples(*[st.sampled_from([1.0, 1.0, 1.0, 1.0004, 1.003, 1.008, 1.3, 10.0, 0.5])] * 3)
TILTS = st.sampled_from([0.0, 0.0, 1e-4, 0.003, 0.02, 0.4, np.pi / 2, np.pi])
FLIPS = st.sets(st.sampled_from("xyz")).map("".join)


def header(path: Path, sform: NDArray, qform: NDArray, pixdim: NDArray, codes: tuple[int, int], unit: int) -> None:
    """A file whose header states these, as its codes say; the qform lends its rotation alone."""
    image = nib.Nifti1Image(values(), np.eye(4))
    image.header.set_qform(qform, codes[1])
    image.header["pixdim"][1:4] = pixdim
    image.header.set_sform(sform, codes[0])
    image.header["xyzt_units"] = unit
    nib.save(nib.Nifti1Image(values(), None, image.header), path)


def lengths(matrix: NDArray) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.sqrt((matrix[:3, :3] ** 2).sum(0))
    return found


@steadily
@given(
    SPACINGS,
    ANGLES,
    FLIPS,
    FACTORS,
    TILTS,
    st.sampled_from(["", "", "x", "xy"]),
    st.tuples(*[st.integers(0, 4)] * 2),
    st.integers(0, 7),
)
def test_contradictions_never_pass_silently(
    tmp_path: Path,
    spacing: Any,
    angles: Any,
    flips: str,
    factors: Any,
    tilt: float,
    mirrored: str,
    codes: tuple[int, int],
    unit: int,
) -> None:
    path, sform = tmp_path / "case.nii", affine(spacing, angles, flips)
    tilted = rotation((tilt, 0, 0)) @ sform[:3, :3] * [-1 if axis in mirrored else 1 for axis in "xyz"]
    qform = np.vstack([np.c_[tilted, sform[:3, 3]], [0, 0, 0, 1]])
    pixdim = np.array(spacing) * factors
    header(path, sform, qform, pixdim, codes, unit)
    stated = np.array(spacing) if codes[0] else pixdim
    try:
        found = read_header(path)[1]
    except InputError as error:
        is_contrary = codes[0] != 0 and (factors != (1, 1, 1) or (codes[1] != 0 and (tilt != 0 or mirrored)))
        assert unit not in MM or is_contrary or not possible(stated * MM[unit]), error
        return
    assert np.allclose(found.spacing[::-1], stated * MM[unit], rtol=1e-5)
    if codes[0]:
        assert np.abs(pixdim / spacing - 1).max() < MOST
    if codes[0] and codes[1]:
        differs = np.abs(found.direction - tilted / lengths(tilted)).max()
        told = codes[0] != codes[1] and len(doubts([path])) == 1
        assert differs < MOST or (told and nib.aff2axcodes(qform) == nib.aff2axcodes(sform))


def possible(spacing: NDArray) -> bool:
    return bool((spacing >= 1e-6).all() and (spacing <= 1e4).all())


@pytest.mark.parametrize("code", [0, 2])
def test_a_header_without_forms_contradicts_nothing(tmp_path: Path, code: int) -> None:
    header(tmp_path / "case.nii", np.diag([9.0, 9, 9, 1]), np.diag([1.0, 1, 1, 1]), np.array([1.0, 2, 3]), (0, code), 2)
    assert read_header(tmp_path / "case.nii")[1].spacing == (3.0, 2.0, 1.0)
    assert doubts([tmp_path / "case.nii"]) == []


@settings(steadily, max_examples=100)
@given(ANGLES, st.permutations((0, 1, 2)), st.tuples(*[st.booleans()] * 3))
def test_a_channel_in_any_storage_order_comes_back(tmp_path: Path, angles: Any, axes: list[int], flips: tuple[bool, ...]) -> None:
    grid = affine((0.7, 1.3, 4.9), angles)
    array = values()
    turned, matrix = array.transpose(axes), np.eye(4)
    matrix[:3, :3] = np.eye(3)[:, axes]
    for axis, flip in enumerate(flips):
        if flip:
            turned = np.flip(turned, axis)
            matrix[:3, 3] += matrix[:3, axis] * (turned.shape[axis] - 1)
            matrix[:3, axis] *= -1
    nib.save(nib.Nifti1Image(array + 1, grid), tmp_path / "0.nii")
    nib.save(nib.Nifti1Image(np.ascontiguousarray(turned), grid @ matrix), tmp_path / "1.nii")
    image, geometry = read_image([tmp_path / "0.nii", tmp_path / "1.nii"])
    assert np.array_equal(image[1], array.T) and geometry == read_header(tmp_path / "0.nii")[1]
    assert geometry.shape == SHAPE[::-1] and isinstance(geometry, Geometry)
