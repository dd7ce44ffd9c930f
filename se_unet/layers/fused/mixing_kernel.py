"""Triton kernels of products over scales: each reads its maps once, and the product writes one. Sums are in float32."""

import triton
import triton.language as tl
from torch import Tensor, float32

from se_unet.layers.fused.mixing import COLUMNS, parts_of_channels

VALUES = 1024  # values of a block of one scale


def launch(rows: Tensor, matrix: Tensor) -> Tensor:
    """Apply a matrix (S, S, C) float32 in any layout to the scales of contiguous rows (B, S, voxels, C)."""
    result = rows.new_empty(rows.shape)
    batch, _, voxels, channels = rows.shape
    constants = _constants(rows)
    grid = (triton.cdiv(voxels, constants["ROWS"]), triton.cdiv(channels, constants["COLUMNS"]), batch)
    multiply[grid](rows, matrix, result, voxels, channels, *matrix.stride(), **constants)
    return result


def launch_sums(gradient: Tensor, rows: Tensor) -> Tensor:
    """Return the sums over parts of the voxels of products of two contiguous maps (B, S, voxels, C) -> (parts, S, S, C) float32."""
    batch, scales, voxels, channels = rows.shape
    number = parts_of_channels(channels)
    sums = rows.new_empty((number, scales, scales, channels), dtype=float32)
    constants = _constants(rows)
    grid = (number, triton.cdiv(channels, constants["COLUMNS"]))
    sum_products[grid](gradient, rows, sums, batch, voxels, channels, triton.cdiv(voxels, number), **constants)
    return sums


def _constants(rows: Tensor) -> dict[str, int]:
    columns = min(COLUMNS, triton.next_power_of_2(rows.shape[3]))
    return {"SCALES": rows.shape[1], "ROWS": VALUES // columns, "COLUMNS": columns, "num_warps": 4}


@triton.jit
def _block(start, last, channels, ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the channels of a program, the places of a block within a map of one scale, and which of them exist."""
    voxel = start + tl.arange(0, ROWS)
    channel = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (voxel < last)[:, None] & (channel < channels)[None, :]
    return channel, voxel.to(tl.int64)[:, None] * channels + channel[None, :], inside


@triton.jit
def multiply(  # type: ignore[no-untyped-def]
    rows, matrix, result, voxels, channels, of_output, of_input, of_channel,
    SCALES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Compute a block of the result at all scales."""
    channel, places, inside = _block(tl.program_id(0) * ROWS, voxels, channels, ROWS, COLUMNS)
    places += tl.program_id(2).to(tl.int64) * SCALES * voxels * channels
    inputs = ()
    for scale in tl.static_range(SCALES):
        one = tl.load(rows + places + scale * voxels * channels, mask=inside, other=0.0).to(tl.float32)
        inputs = inputs + (one,)  # type: ignore[assignment]  # noqa: RUF005 (Triton has no starred values)
    for scale in tl.static_range(SCALES):
        values = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
        for other in tl.static_range(SCALES):
            place = matrix + scale * of_output + other * of_input + channel * of_channel
            values += tl.load(place, mask=channel < channels, other=0.0)[None, :] * inputs[other]
        tl.store(result + places + scale * voxels * channels, values.to(result.dtype.element_ty), mask=inside)


@triton.jit
def sum_products(  # type: ignore[no-untyped-def]
    gradient, rows, sums, batch, voxels, channels, each,
    SCALES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Sum the products of all pairs of scales over a part of the voxels of all samples."""
    first = tl.program_id(0) * each
    last = tl.minimum(first + each, voxels)
    nothing = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
    totals = (nothing,) * (SCALES * SCALES)
    begin = tl.full((), 0, tl.int64)  # of a sample
    for _sample in range(batch):
        for start in range(first, last, ROWS):
            _channel, places, inside = _block(start, last, channels, ROWS, COLUMNS)
            places += begin
            inputs = ()
            for scale in tl.static_range(SCALES):
                one = tl.load(rows + places + scale * voxels * channels, mask=inside, other=0.0).to(tl.float32)
                inputs = inputs + (one,)  # type: ignore[assignment]  # noqa: RUF005
            added = ()
            for scale in tl.static_range(SCALES):
                behind = tl.load(gradient + places + scale * voxels * channels, mask=inside, other=0.0).to(tl.float32)
                for other in tl.static_range(SCALES):
                    added = added + (totals[scale * SCALES + other] + behind * inputs[other],)  # type: ignore[assignment]  # noqa: RUF005
            totals = added
        begin += SCALES * voxels * channels
    channel = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    sums += tl.program_id(0).to(tl.int64) * SCALES * SCALES * channels + channel
    for pair in tl.static_range(SCALES * SCALES):
        tl.store(sums + pair * channels, tl.sum(totals[pair], 0), mask=channel < channels)
