"""A Triton kernel that applies one banded matrix to each of Z, Y and X with one read and one write of the map.

A program computes a tile of Y and X and some channels, and marches along Z. It reads a plane of inputs once, multiplies it by the matrices
of Y and X on tensor cores, and adds the result to all outputs along Z that the plane touches, which stay in registers until they are
complete. Neighbouring tiles overlap by the reach of the matrices; they run side by side, so that a GPU's cache serves the overlap.
"""

import triton
import triton.language as tl
from torch import Tensor

from se_unet.layers.fused import tiles
from se_unet.layers.grids import Band


def launch(rows: Tensor, matrices: list[Tensor], bands: list[Band]) -> Tensor:
    """Apply a matrix (S or 1, outputs, inputs) to each of Z, Y and X of rows (B, S, Z, Y, X, C) -> (B, S, Z', Y', X', C) contiguous.

    The voxels of each sample and scale are contiguous, and matrices have the rows' dtype.
    """
    batch, scales, *inputs, channels = rows.shape
    outputs = [matrix.shape[1] for matrix in matrices]
    result = rows.new_empty(batch, scales, *outputs, channels)
    tile_y, tile_x = (tiles.tile_outputs(band) for band in bands[1:])
    parts, depth = tiles.chunks(outputs[0])
    across = triton.cdiv(channels, tiles.CHANNELS) * triton.cdiv(outputs[1], tile_y) * triton.cdiv(outputs[2], tile_x)
    strides = [stride for matrix in matrices for stride in (matrix.stride(0) * (len(matrix) > 1), *matrix.stride()[1:])]
    unit = next(unit for unit in (16, 8, 4, 2, 1) if channels % unit == 0)
    kernel[(across, parts, batch * scales)](
        rows,
        result,
        *matrices,
        *strides,
        rows.stride(0) // unit,
        rows.stride(1) // unit,
        scales,
        channels // unit,
        *inputs,
        *outputs,
        depth,
        *(number for band in bands for number in band),
        KEPT=tiles.touched(bands[0]),
        TILE_Y=tile_y,
        TILE_X=tile_x,
        ROWS=tiles.ROWS,
        COLUMNS=tiles.COLUMNS,
        CHANNELS=tiles.CHANNELS,
        UNIT=unit,
        num_warps=8 if tiles.touched(bands[0]) <= 9 else 16,  # the outputs that are kept fill the registers
    )
    return result


@triton.jit
def _first(value, step: tl.constexpr):  # type: ignore[no-untyped-def]
    """Round value / step up, also below zero, where Triton's division rounds towards zero."""
    return (value + step * 65536 + step - 1) // step - 65536


@triton.jit
def _tile_matrix(matrix, row_stride, column_stride, row, column, last_row, last_column):  # type: ignore[no-untyped-def]
    """Load the rows and columns of a matrix, zero beyond the last ones."""
    inside = (row < last_row)[:, None] & (column < last_column)[None, :]
    return tl.load(matrix + row[:, None] * row_stride + column[None, :] * column_stride, mask=inside, other=0.0)


@triton.jit
def _store(result, places, inside, values, ROWS: tl.constexpr, CHANNELS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Write a finished plane (X, Y * C) of outputs."""
    tl.store(result + places, tl.reshape(values, (ROWS, ROWS, CHANNELS)).to(result.dtype.element_ty), mask=inside)


@triton.jit
def kernel(  # type: ignore[no-untyped-def]
    rows, result, along_z, along_y, along_x,
    z_scale, z_row, z_column, y_scale, y_row, y_column, x_scale, x_row, x_column,
    batch_units, scale_units, scales, units, in_z, in_y, in_x, out_z, out_y, out_x, depth,
    Z_OUT: tl.constexpr, Z_IN: tl.constexpr, Z_OFFSET: tl.constexpr, Z_REACH: tl.constexpr,
    Y_OUT: tl.constexpr, Y_IN: tl.constexpr, Y_OFFSET: tl.constexpr, Y_REACH: tl.constexpr,
    X_OUT: tl.constexpr, X_IN: tl.constexpr, X_OFFSET: tl.constexpr, X_REACH: tl.constexpr,
    KEPT: tl.constexpr, TILE_Y: tl.constexpr, TILE_X: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr, UNIT: tl.constexpr,
):  # fmt: skip
    """See `launch`. `KEPT` outputs along Z are touched by one input; channels come in units, so that a compiler sees their alignment."""
    channels = units * UNIT
    sample = tl.program_id(2) // scales
    scale = tl.program_id(2) % scales
    rows += (sample.to(tl.int64) * batch_units + scale.to(tl.int64) * scale_units) * UNIT
    result += tl.program_id(2).to(tl.int64) * out_z * out_y * out_x * channels
    along_z += scale * z_scale

    # The tile of this program: outputs (y, x), and the inputs (from_y, from_x) that they need.
    blocks = (channels + CHANNELS - 1) // CHANNELS
    tiles_x = (out_x + TILE_X - 1) // TILE_X
    tile = tl.program_id(0) // blocks
    channel = (tl.program_id(0) % blocks) * CHANNELS + tl.arange(0, CHANNELS)
    first_y = (tile // tiles_x) * TILE_Y
    first_x = (tile % tiles_x) * TILE_X
    last_y = tl.minimum(first_y + TILE_Y, out_y)
    last_x = tl.minimum(first_x + TILE_X, out_x)
    y = first_y + tl.arange(0, ROWS)
    x = first_x + tl.arange(0, ROWS)
    from_y = tl.maximum(_first(first_y * Y_OUT - Y_OFFSET - Y_REACH, Y_IN), 0) + tl.arange(0, COLUMNS)
    from_x = tl.maximum(_first(first_x * X_OUT - X_OFFSET - X_REACH, X_IN), 0) + tl.arange(0, COLUMNS)
    until_y = tl.minimum(_first((last_y - 1) * Y_OUT - Y_OFFSET + Y_REACH + 1, Y_IN), in_y)
    until_x = tl.minimum(_first((last_x - 1) * X_OUT - X_OFFSET + X_REACH + 1, X_IN), in_x)
    matrix_y = _tile_matrix(along_y + scale * y_scale, y_row, y_column, y, from_y, last_y, until_y)
    matrix_x = _tile_matrix(along_x + scale * x_scale, x_row, x_column, x, from_x, last_x, until_x)
    voxel = (from_y[:, None, None] * in_x + from_x[None, :, None]) * channels + channel[None, None, :]
    inside = (from_y < until_y)[:, None, None] & (from_x < until_x)[None, :, None] & (channel < channels)[None, None, :]

    place = (y[None, :, None] * out_x + x[:, None, None]) * channels + channel[None, None, :]
    wanted = (x < last_x)[:, None, None] & (y < last_y)[None, :, None] & (channel < channels)[None, None, :]

    # The march along Z: `pending` are the outputs from z = `oldest` on.
    first_z = tl.program_id(1) * depth
    last_z = tl.minimum(first_z + depth, out_z)
    begin = tl.maximum(_first(first_z * Z_OUT - Z_OFFSET - Z_REACH, Z_IN), 0)
    end = tl.minimum(_first((last_z - 1) * Z_OUT - Z_OFFSET + Z_REACH + 1, Z_IN), in_z)
    oldest = _first(begin * Z_IN + Z_OFFSET - Z_REACH, Z_OUT)
    nothing = tl.full((ROWS, ROWS * CHANNELS), 0.0, tl.float32)
    pending = (nothing,) * KEPT
    for plane in range(begin, end):
        values = tl.load(rows + plane * in_y * in_x * channels + voxel, mask=inside, other=0.0)
        values = tl.dot(matrix_y, tl.reshape(values, (COLUMNS, COLUMNS * CHANNELS)), input_precision="ieee")
        values = tl.permute(tl.reshape(values.to(matrix_x.dtype), (ROWS, COLUMNS, CHANNELS)), (1, 0, 2))
        values = tl.dot(matrix_x, tl.reshape(values, (COLUMNS, ROWS * CHANNELS)), input_precision="ieee")
        touched = ()
        for index in tl.static_range(KEPT):
            z = oldest + index
            weight = tl.load(along_z + z * z_row + plane * z_column, mask=(z >= first_z) & (z < last_z), other=0.0)
            touched = touched + (pending[index] + weight.to(tl.float32) * values,)  # type: ignore[assignment]  # noqa: RUF005
        pending = touched
        following = _first((plane + 1) * Z_IN + Z_OFFSET - Z_REACH, Z_OUT)
        for z in range(oldest, following):
            if (z >= first_z) & (z < last_z):
                _store(result + z * out_y * out_x * channels, place, wanted, pending[0], ROWS, CHANNELS)  # type: ignore[misc]
            pending = pending[1:] + (nothing,)  # noqa: RUF005 (Triton has no starred values)
        oldest = following
    for index in tl.static_range(KEPT):
        if (oldest + index >= first_z) & (oldest + index < last_z):
            _store(result + (oldest + index) * out_y * out_x * channels, place, wanted, pending[index], ROWS, CHANNELS)
