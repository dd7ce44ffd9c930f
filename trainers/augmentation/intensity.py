"""Intensity augmentation: batchgenerators' transforms with nnU-Net's probabilities and ranges, in its order."""

import random as python_random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from batchgenerators.transforms.abstract_transforms import Compose
from batchgenerators.transforms.color_transforms import (
    BrightnessMultiplicativeTransform,
    ContrastAugmentationTransform,
    GammaTransform,
)
from batchgenerators.transforms.noise_transforms import GaussianBlurTransform, GaussianNoiseTransform
from batchgenerators.transforms.resample_transforms import SimulateLowResolutionTransform
from numpy.random import Generator
from numpy.typing import NDArray


def intensity_transforms(across: int | None = None) -> Compose:
    """Return transforms for noise, blur, brightness, contrast, low resolution (but not along the axis `across`) and gamma."""
    gamma = {"gamma_range": (0.7, 1.5), "per_channel": True, "retain_stats": True}
    return Compose(
        [
            GaussianNoiseTransform((0, 0.1), p_per_sample=0.1),
            GaussianBlurTransform((0.5, 1.0), different_sigma_per_axis=True, p_per_sample=0.2, p_per_channel=0.5),
            BrightnessMultiplicativeTransform((0.75, 1.25), p_per_sample=0.15),
            ContrastAugmentationTransform((0.75, 1.25), p_per_sample=0.15),
            SimulateLowResolutionTransform(
                zoom_range=(0.5, 1),
                per_channel=True,
                p_per_channel=0.5,
                order_downsample=0,
                order_upsample=1,  # linear as in nnU-Net now; cubic takes six times as long
                p_per_sample=0.25,
                ignore_axes=None if across is None else (across,),
            ),
            GammaTransform(invert_image=True, p_per_sample=0.1, **gamma),
            GammaTransform(invert_image=False, p_per_sample=0.3, **gamma),
        ]
    )


def augment_intensity(
    images: NDArray[np.float32], transforms: Compose, random: Generator, masked_channels: Sequence[int] = ()
) -> NDArray[np.float32]:
    """Apply the transforms to image patches (B, C, Z, Y, X) in place; zeros of the masked channels lie outside the body and stay zero.

    `random` seeds NumPy's and Python's global generators, which the transforms use; both are restored.
    """
    outside = {channel: images[:, channel] == 0 for channel in masked_channels}
    with _global_seed(int(random.integers(2**32))):
        changed = np.asarray(transforms(data=images)["data"], dtype=np.float32)
    for channel, mask in outside.items():
        changed[:, channel][mask] = 0
    return changed


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    numpy_state, python_state = np.random.get_state(), python_random.getstate()
    np.random.seed(seed)
    python_random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(numpy_state)
        python_random.setstate(python_state)
