"""Intensity transforms: replayable, without a trace in the global random state, and moments as their ranges say."""

import random

import numpy as np

from trainers.augmentation.intensity import augment_intensity, intensity_transforms


def images(batch: int = 4) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(batch, 1, 8, 9, 10)).astype(np.float32)


def test_the_same_seed_gives_the_same_images() -> None:
    transforms = intensity_transforms()
    first, second, other = (augment_intensity(images(20), transforms, np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)
    assert first.dtype == np.float32


def test_the_global_random_states_are_left_as_they_were() -> None:
    np.random.seed(3)
    random.seed(3)
    expected = np.random.uniform(), random.random()
    np.random.seed(3)
    random.seed(3)
    augment_intensity(images(), intensity_transforms(), np.random.default_rng(0))
    assert (np.random.uniform(), random.random()) == expected


def test_share_of_images_left_alone() -> None:
    """None of noise, blur (of one channel), brightness, contrast, low resolution (of one channel) and the two gammas."""
    before = images(600)
    after = augment_intensity(before.copy(), intensity_transforms(across=0), np.random.default_rng(0))
    untouched = np.mean([np.array_equal(a, b) for a, b in zip(before, after, strict=True)])
    expected = 0.9 * (1 - 0.2 * 0.5) * 0.85 * 0.85 * (1 - 0.25 * 0.5) * 0.9 * 0.7
    assert abs(untouched - expected) < 0.06
    assert np.isfinite(after).all()


def test_zeros_outside_the_body_stay_zero_where_asked() -> None:
    before = images(60)
    before[..., :4] = 0
    masked = augment_intensity(before.copy(), intensity_transforms(), np.random.default_rng(0), (0,))
    assert not masked[..., :4].any()
    free = augment_intensity(before.copy(), intensity_transforms(), np.random.default_rng(0))
    assert free[..., :4].any()
