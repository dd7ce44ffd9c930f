import tracemalloc

import numpy as np
import pytest

from configs.fingerprint import IntensityStatistics
from configs.plan import ChannelNormalisation
from preprocessing.geometry.cropping import nonzero_box, nonzero_mask
from preprocessing.normalise import _standard_deviation, normalise

STATISTICS = IntensityStatistics(mean=10, std=4, median=9, min=-50, max=90, percentile_00_5=0, percentile_99_5=30)


def normalised(image, scheme, statistics=None):
    return normalise(image[None], [ChannelNormalisation(channel="a", scheme=scheme, statistics=statistics)])[0]


@pytest.fixture
def image():
    return np.random.default_rng(0).normal(20, 30, (5, 6, 7)).astype(np.float32)


def test_schemes(image):
    assert np.allclose(normalised(image, "ct", STATISTICS), (np.clip(image, 0, 30) - 10) / 4, atol=1e-6)
    standard = normalised(image, "zscore")
    assert abs(standard.mean()) < 1e-5 and abs(standard.std() - 1) < 1e-5
    rescaled = normalised(image, "rescale")
    assert rescaled.min() == 0 and rescaled.max() == 1
    assert np.array_equal(normalised(image, "none"), image)
    assert all(normalised(image, scheme).dtype == np.float32 for scheme in ("zscore", "rescale", "none", "zscore_in_mask"))


def test_mask_holds_enclosed_zeros_and_leaves_the_outside_zero(image):
    padded = np.pad(image, 3)
    padded[5, 5, 5] = 0
    mask = nonzero_mask(padded[None])
    assert mask[5, 5, 5] and mask.sum() == image.size
    inside = normalised(padded, "zscore_in_mask")[mask]
    assert abs(inside.mean()) < 1e-5 and abs(inside.std() - 1) < 1e-5
    assert (normalised(padded, "zscore_in_mask")[~mask] == 0).all()


@pytest.mark.parametrize("scheme", ["zscore", "zscore_in_mask", "rescale"])
@pytest.mark.parametrize("value", [0, 5])
def test_constant_images_stay_finite(scheme, value):
    assert (normalised(np.full((3, 3, 3), value, np.float32), scheme) == 0).all()


@pytest.mark.parametrize("scheme", ["zscore", "zscore_in_mask", "rescale", "ct"])
@pytest.mark.parametrize("unit", [1e-12, 1e-9, 1e9])
def test_units_do_not_matter(image, scheme, unit):
    """Diffusion in m^2/s has values near 1e-9."""
    in_unit = STATISTICS.model_copy(update={name: value * unit for name, value in STATISTICS})
    scaled = normalised((image * unit).astype(np.float32), scheme, in_unit)
    assert np.allclose(scaled, normalised(image, scheme, STATISTICS), atol=1e-5)


def test_each_channel_has_its_scheme(image):
    schemes = [ChannelNormalisation(channel="a", scheme="none"), ChannelNormalisation(channel="b", scheme="rescale")]
    both = normalise(np.stack([image, image]), schemes)
    assert np.array_equal(both[0], image) and both[1].max() == 1
    with pytest.raises(ValueError, match="the image has 1 channels, but 2 are planned"):
        normalise(image[None], schemes)


def test_large_values_keep_their_precision():
    image = (1e6 + np.random.default_rng(0).normal(size=(20, 20, 20))).astype(np.float32)
    assert abs(normalised(image, "zscore").std() - 1) < 0.02


def test_nonzero_box_is_the_union_of_channels():
    image = np.zeros((2, 6, 7, 8), np.float32)
    image[0, 2, 3, 4] = -1
    image[1, 4, 3, 6] = np.nan
    box = nonzero_box(image)
    assert (box.start, box.stop, box.shape) == ((2, 3, 4), (5, 4, 7), (3, 1, 3))
    content = box.crop(image)
    assert np.array_equal(box.paste(content, (6, 7, 8)), image, equal_nan=True)
    assert nonzero_box(np.zeros((1, 2, 3, 4))).shape == (2, 3, 4)


@pytest.mark.parametrize("part", [1, 13, 100, 10**6])
def test_the_deviation_does_not_depend_on_the_parts(image, part):
    for values in (image, image[image > 0], image[::-1, :, ::-1] + np.float32(1e6)):
        mean = float(values.mean(dtype=np.float64))
        assert _standard_deviation(values, mean, part) == pytest.approx(values.std(dtype=np.float64), rel=1e-12)


def test_normalising_takes_no_copy_beside_its_result(monkeypatch):
    """In float64 alone, an image would take twice its memory."""
    monkeypatch.setattr("preprocessing.normalise.PART", 2**14)
    image = np.random.default_rng(0).normal(20, 30, (1, 40, 80, 80)).astype(np.float32)
    for scheme in ("ct", "zscore", "rescale"):
        tracemalloc.start()
        normalise(image[:, ::-1, :, ::-1], [ChannelNormalisation(channel="a", scheme=scheme, statistics=STATISTICS)])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1.5 * image.nbytes, scheme
