"""Normalise the intensities of each channel by the planned scheme."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from configs.errors import Fault
from configs.plan import ChannelNormalisation
from preprocessing.geometry.cropping import PART, nonzero_mask, parts

# A smaller deviation than this share of the largest value is rounding of float32: such a channel counts as constant.
_RESOLUTION = 1e-7
_SMALLEST = 1e-30
_LARGEST_COLOUR = 255.0
_Mask = NDArray[np.bool_] | None


def normalise(image: NDArray[np.float32], schemes: Sequence[ChannelNormalisation]) -> NDArray[np.float32]:
    """Return a new float32 image (C, Z, Y, X) with each channel normalised by its scheme, given the image cropped to its nonzero box.

    Raises:
        ValueError: the number of schemes differs from the number of channels, or scheme `ct` lacks its statistics.
    """
    if len(schemes) != len(image):
        raise ValueError(f"the image has {len(image)} channels, but {len(schemes)} are planned")
    mask = nonzero_mask(image) if any(scheme.scheme == "zscore_in_mask" for scheme in schemes) else None
    result = np.empty(image.shape, dtype=np.float32)
    for channel, scheme, target in zip(image, schemes, result, strict=True):
        _SCHEMES[scheme.scheme](channel, scheme, mask, target)
    return result


def colour_faults(where: str, image: NDArray, schemes: Sequence[ChannelNormalisation]) -> Iterator[Fault]:
    """Yield a fault for each channel of an image (C, Z, Y, X) that scheme `rgb` is for and whose values are not those of colours."""
    for index, (channel, scheme) in enumerate(zip(image, schemes, strict=True)):
        if scheme.scheme == "rgb" and not 0 <= channel.min() <= channel.max() <= _LARGEST_COLOUR:
            problem = f"values of channel {index} run from {channel.min():g} to {channel.max():g}, but `rgb` is for 0 to 255"
            yield Fault(where, problem, "Convert the image to 8 bits for each colour, or plan with --normalisation rescale")


# Each function writes into its last argument without a copy, since a volume may take gigabytes.


def _ct(channel: NDArray, scheme: ChannelNormalisation, mask: _Mask, target: NDArray[np.float32]) -> None:
    statistics = scheme.statistics
    if statistics is None:
        raise ValueError(f"channel `{scheme.channel}`: scheme `ct` needs foreground statistics")
    np.clip(channel, np.float32(statistics.percentile_00_5), np.float32(statistics.percentile_99_5), out=target)
    target -= np.float32(statistics.mean)
    target /= _divisor(statistics.std, statistics.mean)


def _zscore(channel: NDArray, scheme: ChannelNormalisation, mask: _Mask, target: NDArray[np.float32]) -> None:
    target[...] = channel  # sums must not depend on how a turned array lies in memory
    _standardise(target, target, target)


def _zscore_in_mask(channel: NDArray, scheme: ChannelNormalisation, mask: _Mask, target: NDArray[np.float32]) -> None:
    if mask is None or not mask.any():
        target[...] = 0
        return
    _standardise(channel, channel[mask], target)
    target[~mask] = 0


def _rescale(channel: NDArray, scheme: ChannelNormalisation, mask: _Mask, target: NDArray[np.float32]) -> None:
    low, high = channel.min(), channel.max()
    np.subtract(channel, low, out=target)
    target /= _divisor(float(high - low), 0.0)


def _rgb(channel: NDArray, scheme: ChannelNormalisation, mask: _Mask, target: NDArray[np.float32]) -> None:
    np.divide(channel, np.float32(_LARGEST_COLOUR), out=target)


def _none(channel: NDArray, scheme: ChannelNormalisation, mask: _Mask, target: NDArray[np.float32]) -> None:
    target[...] = channel


def _standardise(channel: NDArray, values: NDArray, target: NDArray[np.float32]) -> None:
    """Write (channel - mean) / std into `target`, with mean and std of `values`. All three may be one array."""
    mean = float(values.mean(dtype=np.float64))
    deviation = _standard_deviation(values, mean, PART)
    np.subtract(channel, np.float32(mean), out=target)
    target /= _divisor(deviation, mean)


def _divisor(deviation: float, mean: float) -> np.float32:
    """Return the deviation, or the smallest one that is not rounding: units are free, and an image in m^2/s has values near 1e-9."""
    return np.float32(max(deviation, _RESOLUTION * abs(mean), _SMALLEST))


def _standard_deviation(values: NDArray, mean: float, part: int) -> float:
    """Return the standard deviation, computed in float64 part by part to save memory."""
    length = max(1, part // math.prod(values.shape[1:]))
    squares = (np.square(values[place].astype(np.float64) - mean).sum() for place in parts(len(values), length))
    return math.sqrt(math.fsum(squares) / values.size)


_SCHEMES: dict[str, Callable[[NDArray, ChannelNormalisation, _Mask, NDArray[np.float32]], None]] = {
    "ct": _ct,
    "zscore": _zscore,
    "zscore_in_mask": _zscore_in_mask,
    "rescale": _rescale,
    "rgb": _rgb,
    "none": _none,
}
