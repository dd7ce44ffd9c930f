"""From a file to what a network sees and back to a file: the same grid, and the same labels where nothing was resampled."""

import itertools

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from configs.plan import ChannelNormalisation, ConfigurationPlan
from preprocessing.formats.images import read_image, read_labels, write_labels
from preprocessing.geometry.affine import Geometry
from preprocessing.pipeline import preprocess
from tests.preprocessing.datasets import affine
from tests.preprocessing.way_back import restore_labels

SPACINGS = st.tuples(*[st.floats(0.3, 6)] * 3)
ANGLES = st.tuples(*[st.floats(-3.1, 3.1)] * 3)
FLIPS = st.sets(st.sampled_from("xyz")).map("".join)
MARGINS = st.tuples(*[st.integers(0, 4)] * 6)
POLICIES = st.sampled_from(["canonical", "as-stored"])
SHAPE = (13, 15, 17)  # (Z, Y, X)


def configuration(spacing):
    channel = ChannelNormalisation(channel="MR", scheme="zscore")
    return ConfigurationPlan(spacing=spacing, median_shape=SHAPE, normalisation=(channel,))


def case(margins, seed=0, shape=SHAPE):
    """An image that is 0 at its margins, with a random label in every voxel inside."""
    random = np.random.default_rng(seed)
    inside = tuple(slice(low, size - high) for size, low, high in zip(shape, margins[::2], margins[1::2], strict=True))
    image, labels = np.zeros((1, *shape), np.float32), np.zeros(shape, np.int16)
    image[0][inside] = random.uniform(1, 2, image[0][inside].shape)
    labels[inside] = random.integers(0, 5, labels[inside].shape)
    return image, labels


def same_spacing(geometry, policy):
    """The configuration in which a case of this geometry is not resampled."""
    trace = preprocess(np.ones((1, *geometry.shape), np.float32), None, geometry, configuration((1, 1, 1)), policy).trace
    return configuration(trace.spacing)


@settings(max_examples=80, deadline=None)
@given(SPACINGS, ANGLES, FLIPS, MARGINS, POLICIES)
def test_labels_come_back_exactly_without_resampling(spacing, angles, flips, margins, policy):
    geometry = Geometry.from_affine(SHAPE, affine(spacing, angles, flips))
    image, labels = case(margins)
    prepared = preprocess(image, labels, geometry, same_spacing(geometry, policy), policy)
    assert prepared.labels.shape == prepared.trace.box.shape
    assert np.array_equal(restore_labels(prepared.labels, prepared.trace), labels)
    assert prepared.trace.geometry == geometry
    if policy == "as-stored":
        assert np.array_equal(prepared.labels, prepared.trace.box.crop(labels))


@settings(max_examples=40, deadline=None)
@given(SPACINGS, SPACINGS, ANGLES, FLIPS, POLICIES)
def test_the_grid_comes_back_whatever_the_spacings(spacing, planned, angles, flips, policy):
    geometry = Geometry.from_affine(SHAPE, affine(spacing, angles, flips))
    image, labels = case((1, 2, 0, 1, 2, 0))
    prepared = preprocess(image, labels, geometry, configuration(planned), policy)
    restored = restore_labels(prepared.labels, prepared.trace)
    assert restored.shape == SHAPE and set(np.unique(restored)) <= set(np.unique(labels))
    assert not restored[image[0] == 0].any()
    assert np.isfinite(prepared.image).all()


@settings(max_examples=30, deadline=None)
@given(st.tuples(*[st.floats(0.5, 3)] * 3), ANGLES, FLIPS)
def test_a_structure_stays_in_its_place(spacing, angles, flips):
    """After a grid that is at least as fine, only its surface may differ, and its centre does not move."""
    shape = (20, 22, 24)
    labels = np.zeros(shape, np.int16)
    labels[5:14, 6:15, 7:18] = 1
    geometry = Geometry.from_affine(shape, affine(spacing, angles, flips))
    turned = same_spacing(geometry, "canonical").spacing
    prepared = preprocess(
        np.ones((1, *shape), np.float32), labels, geometry, configuration(tuple(size / 1.37 for size in turned))
    )
    restored = restore_labels(prepared.labels, prepared.trace)
    surface = ndimage.binary_dilation(labels, iterations=1) ^ ndimage.binary_erosion(labels, iterations=1).astype(bool)
    assert not ((restored != labels) & ~surface).any()
    assert np.allclose(ndimage.center_of_mass(restored), ndimage.center_of_mass(labels), atol=0.1)


PERMUTED = [np.eye(3)[list(order)] for order in itertools.permutations(range(3))]


@pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=3)))
@pytest.mark.parametrize("order", range(6))
def test_all_48_orientations(signs, order):
    """Every order and sense of the axes: RAS inside, and back exactly."""
    matrix = np.eye(4)
    matrix[:3, :3] = (PERMUTED[order] * np.array([0.8, 1.1, 2.5])) * np.array(signs)[:, None]
    geometry = Geometry.from_affine(SHAPE, matrix)
    image, labels = case((2, 1, 0, 3, 1, 1))
    prepared = preprocess(image, labels, geometry, same_spacing(geometry, "canonical"))
    assert nib.aff2axcodes(prepared.trace.orientation.apply_geometry(geometry).matrix) == ("R", "A", "S")
    assert np.array_equal(restore_labels(prepared.labels, prepared.trace), labels)


OBLIQUE = affine((0.71, 1.13, 3.7), (0.31, -0.22, 1.7), "xz")


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"])
@pytest.mark.parametrize("policy", ["canonical", "as-stored"])
def test_files_come_back_with_their_direction_to_the_bit(tmp_path, ending, policy):
    """Anisotropic, oblique, flipped and cropped."""
    image, labels = case((0, 2, 3, 0, 1, 1))
    source = tmp_path / f"image{ending}"
    write_labels(source, (image[0] * 1000).astype(np.int32), Geometry.from_affine(SHAPE, OBLIQUE))
    read, geometry = read_image([source])
    prepared = preprocess(read, labels, geometry, same_spacing(geometry, policy), policy)
    write_labels(tmp_path / f"labels{ending}", restore_labels(prepared.labels, prepared.trace), prepared.trace.geometry, source)
    restored, grid = read_labels(tmp_path / f"labels{ending}")
    assert np.array_equal(restored, labels)
    assert grid == geometry  # exactly
    one, other = (SimpleITK.ReadImage(str(tmp_path / f"{name}{ending}")) for name in ("image", "labels"))
    assert one.GetDirection() == other.GetDirection() and one.GetOrigin() == other.GetOrigin()


def test_a_wrong_way_back_is_seen():
    """The control: another orientation does not give the labels back."""
    geometry = Geometry.from_affine((13, 13, 13), affine((1, 1, 1), flips="x"))
    image, labels = case((0,) * 6, shape=(13, 13, 13))
    prepared = preprocess(image, labels, geometry, configuration((1, 1, 1)))
    wrong = prepared.trace.model_copy(
        update={"orientation": prepared.trace.orientation.model_copy(update={"flips": (True,) * 3})}
    )
    assert not np.array_equal(restore_labels(prepared.labels, wrong), labels)
