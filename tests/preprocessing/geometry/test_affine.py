import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.geometry.affine import Geometry
from preprocessing.geometry.orientation import Turn, find_turn
from tests.preprocessing.datasets import affine

SPACING = st.tuples(*[st.floats(0.2, 8)] * 3)
ANGLES = st.tuples(*[st.floats(-3.1, 3.1)] * 3)
FLIPS = st.sets(st.sampled_from("xyz")).map("".join)


def test_axes_are_reversed():
    geometry = Geometry.from_affine((2, 3, 4), np.diag([1.0, 2.0, 5.0, 1.0]))
    assert geometry.spacing == (5.0, 2.0, 1.0)
    assert geometry.voxel_volume == 10
    assert geometry == Geometry.from_spacing((2, 3, 4), (5, 2, 1))


@pytest.mark.parametrize(
    ("spacing", "message"),
    [((0, 1, 1), "positive"), ((1, -1, 1), "contradict|positive"), ((1, 1, float("nan")), "positive")],
)
def test_refuses_spacing_that_is_not_positive(spacing, message):
    with pytest.raises(ValueError, match=message):
        Geometry((2, 2, 2), spacing, Geometry.from_spacing((2, 2, 2), (1, 1, 1)).affine)


def test_refuses_contradiction_shear_and_emptiness():
    affine_rows = Geometry.from_spacing((2, 2, 2), (1, 1, 1)).affine
    with pytest.raises(ValueError, match="contradict"):
        Geometry((2, 2, 2), (1, 1, 2), affine_rows)
    sheared = np.eye(4)
    sheared[0, 1] = 0.2
    with pytest.raises(ValueError, match="right angles"):
        Geometry.from_affine((2, 2, 2), sheared)
    with pytest.raises(ValueError, match="shape"):
        Geometry.from_spacing((2, 0, 2), (1, 1, 1))
    with pytest.raises(ValueError, match="positive"):
        Geometry.from_affine((2, 2, 2), np.zeros((4, 4)))


@settings(max_examples=60, deadline=None)
@given(SPACING, ANGLES, FLIPS)
def test_orientation_round_trip_and_place(spacing, angles, flips):
    """The way back is exact, the turned image is RAS, and no voxel moves in space."""
    geometry = Geometry.from_affine((3, 4, 5), affine(spacing, angles, flips))
    turn = find_turn(geometry, "canonical")
    turned = turn.apply_geometry(geometry)
    stored = np.arange(120).reshape(2, 3, 4, 5)
    assert turn.apply(stored).shape == (2, *turned.shape)
    assert np.array_equal(turn.invert(turn.apply(stored)), stored)
    assert nib.aff2axcodes(turned.matrix) == ("R", "A", "S")
    z, y, x = np.argwhere(stored[0] == 37)[0]
    new_z, new_y, new_x = np.argwhere(turn.apply(stored)[0] == 37)[0]
    assert np.allclose(geometry.matrix @ (x, y, z, 1), turned.matrix @ (new_x, new_y, new_z, 1))


def test_as_stored_never_turns():
    geometry = Geometry.from_affine((3, 4, 5), affine((1, 1, 1), flips="xy"))
    assert find_turn(geometry, "as-stored") == Turn()


def test_agrees_with_nibabel():
    data = np.arange(60).reshape(3, 4, 5)
    source = nib.Nifti1Image(data.astype(np.int16), affine((1, 2, 3), (1.4, 0.1, 0.2), "y"))
    canonical = nib.as_closest_canonical(source)
    geometry = Geometry.from_affine((5, 4, 3), source.affine)
    turn = find_turn(geometry, "canonical")
    assert np.array_equal(turn.apply(data.T), np.asarray(canonical.dataobj).T)
    assert np.allclose(turn.apply_geometry(geometry).matrix, canonical.affine)
