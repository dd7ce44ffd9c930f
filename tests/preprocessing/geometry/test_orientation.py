"""How a file stores its axes changes nothing: the turned image is the same for all 48 orders and directions of the stored axes."""

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from configs.plan import Orientation, SliceFrame
from preprocessing.geometry.affine import Geometry
from preprocessing.geometry.orientation import Turn, find_turn, thick_axis, turned_directions
from tests.preprocessing.datasets import affine, rotation

STORED = [nib.orientations.ornt_transform(nib.orientations.io_orientation(np.eye(4)), np.array(list(zip(axes, signs, strict=True))))
          for axes in permutations(range(3)) for signs in product((1, -1), repeat=3)]  # fmt: skip
SPACINGS = {"isotropic": (1.0, 1.0, 1.0), "thick": (1.2, 1.2, 6.0), "slightly anisotropic": (0.9, 1.1, 1.3)}
FRAME = SliceFrame(reference=((0.9, 0.1, 0.42), (-0.1, 0.99, 0.0), (-0.42, -0.04, 0.91)))
ANGLES = st.tuples(*[st.one_of(st.floats(-3.1, 3.1), st.sampled_from([0.0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]))] * 3)
POLICIES = st.sampled_from(["canonical", FRAME])


def stored_as(image: nib.Nifti1Image, order: NDArray) -> tuple[NDArray, Geometry]:
    turned = image.as_reoriented(order)
    array = np.asarray(turned.dataobj).transpose()
    return array, Geometry.from_affine(array.shape, turned.affine)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(list(SPACINGS)), ANGLES, POLICIES)
def test_all_ways_to_store_an_image_are_turned_to_the_same_array(kind: str, angles: tuple, policy: Orientation) -> None:
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), affine(SPACINGS[kind], angles))
    first, *others = [stored_as(image, order) for order in STORED]
    turn = find_turn(first[1], policy)
    array, geometry = turn.apply(first[0]), turn.apply_geometry(first[1])
    for stored, grid in others:
        turn = find_turn(grid, policy)
        assert np.array_equal(turn.apply(stored), array)
        turned = turn.apply_geometry(grid)
        assert turned.spacing == geometry.spacing and np.array_equal(turned.matrix[:3, :3], geometry.matrix[:3, :3])
        assert np.allclose(turned.matrix, geometry.matrix, atol=1e-9)


def test_the_order_of_storage_decides_between_axes_that_tie_where_nothing_is_done_about_it() -> None:
    """The control: nibabel alone gives several arrays for an image that is turned by 45 degrees twice."""
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), affine((1, 1, 1), (0, np.pi / 4, np.pi / 4)))
    seen = {np.asarray(nib.as_closest_canonical(image.as_reoriented(order)).dataobj).tobytes() for order in STORED}
    assert len(seen) > 1


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(list(SPACINGS)), ANGLES, st.sampled_from(range(48)))
def test_in_a_slice_frame_z_runs_across_thick_slices_and_nothing_is_mirrored(kind: str, angles: tuple, order: int) -> None:
    stored, geometry = stored_as(nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), affine(SPACINGS[kind], angles)), STORED[order])
    turn = find_turn(geometry, FRAME)
    turned = turn.apply_geometry(geometry)
    assert np.linalg.det(turned.direction) > 0
    assert thick_axis(turned.spacing, FRAME.thick) == (0 if kind == "thick" else None)
    assert np.allclose(turned.direction.T, turned_directions(geometry, turn), atol=1e-12)
    assert np.array_equal(turn.invert(turn.apply(stored)), stored)


@settings(max_examples=60, deadline=None)
@given(ANGLES, st.floats(0, 0.4), st.integers(0, 2))
def test_images_that_lie_nearly_alike_are_turned_alike(angles: tuple, by: float, axis: int) -> None:
    """Two series within 23 degrees of the reference: canonical orientation would turn some of them by 90 degrees."""
    reference = rotation(angles)
    step = [0.0, 0.0, 0.0]
    step[axis] = by
    frame = SliceFrame.model_validate({"reference": reference.T.tolist()})
    moved = np.eye(4)
    moved[:3, :3] = rotation((step[0], step[1], step[2])) @ reference * (1.2, 1.2, 6.0)
    assert find_turn(Geometry.from_affine((3, 4, 5), moved), frame) == Turn()


@pytest.mark.parametrize(
    ("spacing", "axis"), [((5, 1, 1), 0), ((1, 1, 1.4), None), ((1, 1.6, 1), 1), ((1, 5, 5), None), ((1, 1, 1.6), 2)]
)
def test_an_axis_is_across_thick_slices_where_it_alone_is_coarse(spacing: tuple, axis: int | None) -> None:
    assert thick_axis(spacing, 1.5) == axis
