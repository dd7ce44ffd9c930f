"""Intensities of each channel brought to a common range, by the scheme that the plan chose."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from configs.plan import ChannelNormalisation
from preprocessing.cropping import nonzero_mask

_SMALLEST_STD = 1e-8
_Mask = NDArray[np.bool_] | None


def normalise(image: NDArray[np.float32], schemes: Sequence[ChannelNormalisation]) -> NDArray[np.float32]:
    """Normalise each channel.

    Args:
        image: (C, Z, Y, X), cropped to its nonzero box.
        schemes: one for each channel.

    Returns:
        A new array (C, Z, Y, X) float32.

    Raises:
        ValueError: another number of channels.
    """
    if len(schemes) != len(image):
        raise ValueError(f"an image of {len(image)} channels cannot be normalised as {len(schemes)}")
    mask = nonzero_mask(image) if any(scheme.scheme == "zscore_in_mask" for scheme in schemes) else None
    channels = [_SCHEMES[scheme.scheme](channel, scheme, mask) for channel, scheme in zip(image, schemes, strict=True)]
    return np.stack(channels).astype(np.float32, copy=False)


def _ct(channel: NDArray, scheme: ChannelNormalisation, mask: _Mask) -> NDArray:
    statistics = scheme.statistics
    if statistics is None:
        raise ValueError(f"channel `{scheme.channel}`: scheme `ct` needs foreground statistics")
    clipped = np.clip(channel, statistics.percentile_00_5, statistics.percentile_99_5)
    return (clipped - np.float32(statistics.mean)) / np.float32(max(statistics.std, _SMALLEST_STD))


def _zscore(channel: NDArray, scheme: ChannelNormalisation, mask: _Mask) -> NDArray:
    mean, std = _mean_and_std(channel)
    return (channel - mean) / std


def _zscore_in_mask(channel: NDArray, scheme: ChannelNormalisation, mask: _Mask) -> NDArray:
    if mask is None or not mask.any():
        return np.zeros_like(channel)
    mean, std = _mean_and_std(channel[mask])
    return np.where(mask, (channel - mean) / std, np.float32(0))


def _rescale(channel: NDArray, scheme: ChannelNormalisation, mask: _Mask) -> NDArray:
    low, high = channel.min(), channel.max()
    return (channel - low) / max(high - low, np.float32(_SMALLEST_STD))


def _none(channel: NDArray, scheme: ChannelNormalisation, mask: _Mask) -> NDArray:
    return channel


def _mean_and_std(values: NDArray) -> tuple[np.float32, np.float32]:
    mean = values.mean(dtype=np.float64)
    return np.float32(mean), np.float32(max(values.std(dtype=np.float64), _SMALLEST_STD))


_SCHEMES: dict[str, Callable[[NDArray, ChannelNormalisation, _Mask], NDArray]] = {
    "ct": _ct,
    "zscore": _zscore,
    "zscore_in_mask": _zscore_in_mask,
    "rescale": _rescale,
    "none": _none,
}
