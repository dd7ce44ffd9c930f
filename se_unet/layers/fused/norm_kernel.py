"""Triton kernels of instance normalisation: each pass reads its maps twice and writes once, whatever the batch.

The first kernel of a pass sums over parts of the voxels, the second adds up the parts and computes the result. Sums are in float32; those
of the forward pass are of the differences from a sample's first voxel, so that a large mean costs no precision.
"""

import triton
import triton.language as tl
from torch import Tensor, float32

VALUES = 4096  # values of a block
PARTS = 256  # most parts of the voxels


def launch(samples: Tensor, weight: Tensor, bias: Tensor, eps: float, slope: float) -> tuple[Tensor, Tensor]:
    """Normalise contiguous samples (B, voxels, C) and rectify them: the result, and mean and reciprocal deviation (B, 2, C) float32."""
    result = samples.new_empty(samples.shape)
    sums, grid, sizes = _plan(samples)
    statistics = sums.new_empty((len(sums), *sums.shape[2:]))
    sum_values[grid](samples, sums, *sizes[0], **sizes[1])
    normalise[grid](samples, result, weight, bias, sums, statistics, eps, slope, *sizes[0], **sizes[1])
    return result, statistics


def launch_backward(
    gradient: Tensor, samples: Tensor, weight: Tensor, bias: Tensor, statistics: Tensor, slope: float
) -> tuple[Tensor, Tensor]:
    """Return the gradient of the samples (B, voxels, C), and those of bias and weight, (2, C) float32."""
    result = samples.new_empty(samples.shape)
    sums, grid, sizes = _plan(samples)
    totals = sums.new_empty(sums.shape[2:])
    sum_gradients[grid](gradient, samples, weight, bias, statistics, sums, slope, *sizes[0], **sizes[1])
    propagate[grid](gradient, samples, result, weight, bias, statistics, sums, totals, slope, *sizes[0], **sizes[1])
    return result, totals


def _plan(samples: Tensor) -> tuple[Tensor, tuple[int, int, int], tuple[tuple[int, int, int], dict[str, int]]]:
    """Return room for the sums of parts (B, parts, 2, C), the grid, and the sizes that kernels need."""
    batch, voxels, channels = samples.shape
    columns = min(64, triton.next_power_of_2(channels))
    rows = VALUES // columns
    parts = min(PARTS, triton.cdiv(voxels, rows))
    each = triton.cdiv(triton.cdiv(voxels, parts), rows) * rows
    sums = samples.new_empty((batch, parts, 2, channels), dtype=float32)
    constants = {"ROWS": rows, "COLUMNS": columns, "PARTS": triton.next_power_of_2(parts), "num_warps": 8}
    grid = (parts, triton.cdiv(channels, columns), batch)
    return sums, grid, ((voxels, channels, each), constants)


@triton.jit
def _places(voxels, channels, each, ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the channels of a program, the first and last voxel of its part, and where its sample begins."""
    channel = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    first = tl.program_id(0) * each
    return channel, first, tl.minimum(first + each, voxels), tl.program_id(2).to(tl.int64) * voxels * channels


@triton.jit
def _block(start, last, channel, channels, ROWS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the places of a block within its sample, and which of them exist."""
    voxel = start + tl.arange(0, ROWS)
    return voxel[:, None] * channels + channel[None, :], (voxel < last)[:, None] & (channel < channels)[None, :]


@triton.jit
def _keep_pair(pairs, place, one, other, channel, channels):  # type: ignore[no-untyped-def]
    """Store two values for each channel at a place of pairs (..., 2, C)."""
    pairs += place * 2 * channels + channel
    tl.store(pairs, one, mask=channel < channels)
    tl.store(pairs + channels, other, mask=channel < channels)


@triton.jit
def _keep_sums(sums, one, other, channel, channels):  # type: ignore[no-untyped-def]
    """Store the sums over the rows of two blocks as those of this part."""
    part = tl.program_id(2) * tl.num_programs(0) + tl.program_id(0)
    _keep_pair(sums, part, tl.sum(one, 0), tl.sum(other, 0), channel, channels)


@triton.jit
def _add_up(sums, sample, channel, channels, PARTS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return two sums over all parts of a sample."""
    part = tl.arange(0, PARTS)
    inside = (part < tl.num_programs(0))[:, None] & (channel < channels)[None, :]
    places = (sample * tl.num_programs(0) + part)[:, None] * 2 * channels + channel[None, :]
    one = tl.sum(tl.load(sums + places, mask=inside, other=0.0), 0)
    return one, tl.sum(tl.load(sums + places + channels, mask=inside, other=0.0), 0)


@triton.jit
def _of_channels(values, channel, channels):  # type: ignore[no-untyped-def]
    return tl.load(values + channel, mask=channel < channels, other=0.0).to(tl.float32)


@triton.jit
def sum_values(samples, sums, voxels, channels, each, ROWS: tl.constexpr, COLUMNS: tl.constexpr, PARTS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Sum the values of a part, and their squares, as differences from the sample's first voxel."""
    channel, first, last, begin = _places(voxels, channels, each, ROWS, COLUMNS)
    pivot = _of_channels(samples + begin, channel, channels)
    one = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
    other = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
    for start in range(first, last, ROWS):
        places, inside = _block(start, last, channel, channels, ROWS)
        values = tl.load(samples + begin + places, mask=inside, other=0.0).to(tl.float32)
        values = tl.where(inside, values - pivot[None, :], 0.0)
        one += values
        other += values * values
    _keep_sums(sums, one, other, channel, channels)


@triton.jit
def normalise(  # type: ignore[no-untyped-def]
    samples, result, weight, bias, sums, statistics, eps, slope, voxels, channels, each,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """Normalise, scale, shift and rectify a part."""
    channel, first, last, begin = _places(voxels, channels, each, ROWS, COLUMNS)
    one, other = _add_up(sums, tl.program_id(2), channel, channels, PARTS)
    distance = one / voxels
    mean = _of_channels(samples + begin, channel, channels) + distance
    deviation = 1.0 / tl.sqrt(tl.maximum(other / voxels - distance * distance, 0.0) + eps)
    if tl.program_id(0) == 0:
        _keep_pair(statistics, tl.program_id(2), mean, deviation, channel, channels)
    gain = _of_channels(weight, channel, channels) * deviation
    shift = _of_channels(bias, channel, channels)
    for start in range(first, last, ROWS):
        places, inside = _block(start, last, channel, channels, ROWS)
        values = tl.load(samples + begin + places, mask=inside, other=0.0).to(tl.float32)
        values = (values - mean[None, :]) * gain[None, :] + shift[None, :]
        values = tl.where(values > 0, values, values * slope)
        tl.store(result + begin + places, values.to(result.dtype.element_ty), mask=inside)


@triton.jit
def _of_norm(statistics, weight, bias, channel, channels):  # type: ignore[no-untyped-def]
    """Return mean and reciprocal deviation of this sample, and the factor and shift of its normalisation."""
    statistics += tl.program_id(2) * 2 * channels
    mean, deviation = _of_channels(statistics, channel, channels), _of_channels(statistics + channels, channel, channels)
    return mean, deviation, _of_channels(weight, channel, channels) * deviation, _of_channels(bias, channel, channels)


@triton.jit
def _before_norm(  # type: ignore[no-untyped-def]
    gradient, samples, places, inside, mean, deviation, gain, shift, slope
):
    """Return the gradient before the rectifier, and the normalised values."""
    values = tl.load(samples + places, mask=inside, other=0.0).to(tl.float32) - mean[None, :]
    behind = tl.load(gradient + places, mask=inside, other=0.0).to(tl.float32)
    behind = tl.where(values * gain[None, :] + shift[None, :] > 0, behind, behind * slope)
    return behind, values * deviation[None, :]


@triton.jit
def sum_gradients(  # type: ignore[no-untyped-def]
    gradient, samples, weight, bias, statistics, sums, slope, voxels, channels, each,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """Sum the gradient of a part before the rectifier, and its product with the normalised values."""
    channel, first, last, begin = _places(voxels, channels, each, ROWS, COLUMNS)
    mean, deviation, gain, shift = _of_norm(statistics, weight, bias, channel, channels)
    one = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
    other = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
    for start in range(first, last, ROWS):
        places, inside = _block(start, last, channel, channels, ROWS)
        before, values = _before_norm(gradient, samples, begin + places, inside, mean, deviation, gain, shift, slope)
        one += before
        other += before * values
    _keep_sums(sums, one, other, channel, channels)


@triton.jit
def propagate(  # type: ignore[no-untyped-def]
    gradient, samples, result, weight, bias, statistics, sums, totals, slope, voxels, channels, each,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """Compute the gradient of a part of the samples; one program also adds up those of bias and weight over the samples."""
    channel, first, last, begin = _places(voxels, channels, each, ROWS, COLUMNS)
    one, other = _add_up(sums, tl.program_id(2), channel, channels, PARTS)
    if tl.program_id(0) + tl.program_id(2) == 0:
        all_one, all_other = one, other
        for sample in range(1, tl.num_programs(2)):
            of_one, of_other = _add_up(sums, sample, channel, channels, PARTS)
            all_one += of_one
            all_other += of_other
        _keep_pair(totals, 0, all_one, all_other, channel, channels)
    mean, deviation, gain, shift = _of_norm(statistics, weight, bias, channel, channels)
    for start in range(first, last, ROWS):
        places, inside = _block(start, last, channel, channels, ROWS)
        before, values = _before_norm(gradient, samples, begin + places, inside, mean, deviation, gain, shift, slope)
        values = (before - one[None, :] / voxels - values * other[None, :] / voxels) * gain[None, :]
        tl.store(result + begin + places, values.to(result.dtype.element_ty), mask=inside)
