import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.plan import ChannelNormalisation, ConfigurationPlan
from inference.engine.assemble import restore
from preprocessing.geometry.affine import Geometry
from preprocessing.pipeline import Trace, preprocess
from tests.preprocessing.datasets import affine
from tests.preprocessing.way_back import restore_labels

ANGLES = st.tuples(*[st.floats(-3.1, 3.1)] * 3)
FLIPS = st.sets(st.sampled_from("xyz")).map("".join)


def configuration(spacing=(1.0, 1.0, 1.0)):
    return ConfigurationPlan(
        spacing=spacing, median_shape=(9, 10, 11), normalisation=(ChannelNormalisation(channel="MR", scheme="none"),)
    )


def volume(seed=0, shape=(9, 10, 11), margin=2):
    """An image that is zero at its margin, with labels inside."""
    random = np.random.default_rng(seed)
    image = np.zeros((1, *shape), np.float32)
    inside = (slice(margin, -margin),) * 3
    image[0][inside] = random.uniform(1, 2, image[0][inside].shape)
    labels = np.zeros(shape, np.int16)
    labels[inside] = random.integers(0, 4, labels[inside].shape)
    return image, labels


@settings(max_examples=40, deadline=None)
@given(ANGLES, FLIPS, st.integers(0, 3))
def test_labels_come_back_exactly_where_nothing_is_resampled(angles, flips, margin):
    shape = (9, 10, 11) if margin else (5, 3, 7)
    image, labels = volume(shape=shape, margin=margin) if margin else (np.ones((1, *shape), np.float32), np.ones(shape, np.int16))
    geometry = Geometry.from_affine(shape, affine((1, 1, 1), angles, flips))
    prepared = preprocess(image, labels, geometry, configuration())
    assert prepared.image.shape[1:] == prepared.labels.shape == prepared.trace.resampled_shape
    assert prepared.image.all()  # the margin is gone
    assert np.array_equal(restore_labels(prepared.labels, prepared.trace), labels)
    scores = torch.from_numpy(np.stack([prepared.labels == index for index in range(4)]).astype(np.float32))
    assert np.array_equal(restore(scores, prepared.trace).argmax(0), labels)
    assert Trace.model_validate_json(prepared.trace.model_dump_json()) == prepared.trace
    assert prepared.trace.geometry == geometry


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.floats(0.4, 2.5)] * 3), ANGLES, FLIPS)
def test_grid_comes_back_after_resampling(spacing, angles, flips):
    """A large block keeps its place and, but for its surface, its labels."""
    shape = (16, 18, 20)
    labels = np.zeros(shape, np.int16)
    labels[4:12, 5:13, 6:14] = 1
    geometry = Geometry.from_affine(shape, affine(spacing, angles, flips))
    prepared = preprocess(np.ones((1, *shape), np.float32), labels, geometry, configuration())
    assert np.allclose(prepared.trace.spacing, np.array(geometry.spacing)[list(prepared.trace.orientation.axes)])
    restored = restore_labels(prepared.labels, prepared.trace)
    assert restored.shape == shape
    assert restored[6:10, 7:11, 8:12].all() and not restored[:2].any() and not restored[:, :, 17:].any()


def test_image_keeps_its_place_in_space():
    """A bright voxel lies at the same millimetres before and after, in an oblique, flipped, cropped, anisotropic image."""
    image = np.zeros((1, 12, 14, 16), np.float32)
    image[0, 2:10, 3:12, 4:15] = 1
    image[0, 5, 6, 7] = 100
    geometry = Geometry.from_affine((12, 14, 16), affine((1, 0.7, 1.6), (0.2, 1.6, -0.3), "xz"))
    prepared = preprocess(image, None, geometry, configuration((0.5, 0.5, 0.5)))
    trace = prepared.trace
    canonical = trace.orientation.apply_geometry(geometry)
    peak = np.unravel_index(prepared.image[0].argmax(), prepared.image.shape[1:])
    scale = np.divide(trace.box.shape, trace.resampled_shape)
    index = (np.array(peak) + 0.5) * scale - 0.5 + trace.box.start
    found = canonical.matrix @ (*index[::-1], 1)
    expected = geometry.matrix @ (7, 6, 5, 1)
    assert np.linalg.norm(found - expected) < 0.5


def test_thick_slices_are_not_mixed():
    image = np.ones((1, 4, 8, 8), np.float32) * np.arange(1, 5, dtype=np.float32)[:, None, None]
    geometry = Geometry.from_spacing((4, 8, 8), (8, 1, 1))
    prepared = preprocess(image, None, geometry, configuration((2.0, 1.0, 1.0)))
    assert prepared.trace.separate_axis == 0
    assert np.allclose(np.unique(prepared.image.round(4)), [1, 2, 3, 4])


def test_slices_keep_their_own_distance():
    """Where networks see single slices, only the planes are resampled."""
    image, labels = volume()
    geometry = Geometry.from_spacing((9, 10, 11), (3, 2, 2))
    planned = configuration((5.0, 1.0, 1.0)).model_copy(update={"slice_axis": 0})
    trace = preprocess(image, labels, geometry, planned).trace
    assert trace.box.shape == (5, 6, 7)
    assert trace.resampled_shape == (5, 12, 14) and trace.resampled_spacing == (3, 1, 1)
    assert preprocess(image, labels, geometry, configuration((5.0, 1.0, 1.0))).trace.resampled_shape == (3, 12, 14)


def test_channels_come_back_with_zeros_outside_the_crop():
    image, _ = volume()
    geometry = Geometry.from_affine((9, 10, 11), affine((1, 1, 1), flips="y"))
    trace = preprocess(image, None, geometry, configuration()).trace
    restored = restore(torch.randn(3, *trace.box.shape).softmax(0), trace)
    assert restored.shape == (3, 9, 10, 11) and (restored[:, 0] == 0).all()
    assert np.allclose(restored[:, 3:6, 3:6, 3:6].sum(0), 1, atol=1e-5)


def test_wrong_shapes_are_refused():
    image, labels = volume()
    geometry = Geometry.from_spacing((9, 10, 11), (1, 1, 1))
    with pytest.raises(ValueError, match="must have the shape"):
        preprocess(image[:, 1:], None, geometry, configuration())
    with pytest.raises(ValueError, match="must have the shape"):
        preprocess(image, labels[1:], geometry, configuration())
