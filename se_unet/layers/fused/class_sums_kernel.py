"""Triton kernels that sum class probabilities: each pass reads the logits once, and the backward pass writes their gradient.

A program takes one of `PARTS` parts of a sample's voxels, in blocks of some voxels with all their classes. Labels are read where they are,
also from every second voxel of a finer grid. Sums are in float32.
"""

import triton
import triton.language as tl
from torch import Tensor, float32

from se_unet.layers.fused.class_sums import PARTS

VALUES = 2048  # values of a block


def launch(rows: Tensor, labels: Tensor, ignored: int) -> Tensor:
    """Return the sums of contiguous rows (B, voxels, K) with class indices (B, Z, Y, X) -> (PARTS, B, 4, K) float32."""
    sums = rows.new_empty((PARTS, rows.shape[0], 4, rows.shape[2]), dtype=float32)
    sizes, constants = _plan(rows, labels)
    sum_terms[(PARTS, rows.shape[0])](rows, labels, sums, ignored, *sizes, **constants)
    return sums


def launch_backward(gradient: Tensor, rows: Tensor, labels: Tensor, ignored: int) -> Tensor:
    """Return the gradient of the rows (B, voxels, K) from that of their sums (PARTS, B, 4, K), in any layout."""
    result = rows.new_empty(rows.shape)
    sizes, constants = _plan(rows, labels)
    propagate[(PARTS, rows.shape[0])](gradient, rows, labels, result, ignored, *gradient.stride(), *sizes, **constants)
    return result


def _plan(rows: Tensor, labels: Tensor) -> tuple[tuple[int, ...], dict[str, int]]:
    """Return the sizes and strides that kernels need, and their constants."""
    _, voxels, classes = rows.shape
    columns = triton.next_power_of_2(classes)
    constants = {"ROWS": max(1, VALUES // columns), "COLUMNS": columns, "num_warps": 4}
    return (voxels, classes, triton.cdiv(voxels, PARTS), *labels.shape[2:], *labels.stride()), constants


@triton.jit
def _part(voxels, classes, each):  # type: ignore[no-untyped-def]
    """Return the first and the last voxel of a program, and where its sample begins in the rows."""
    first = tl.program_id(0) * each
    return first, tl.minimum(first + each, voxels), tl.program_id(1).to(tl.int64) * voxels * classes


@triton.jit
def _block(  # type: ignore[no-untyped-def]
    rows, labels, ignored, start, last, classes, size_y, size_x, of_sample, of_z, of_y, of_x,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Return places of a block within its sample, which exist, logarithms of the probabilities, and which voxels count, as which class."""
    voxel, column = start + tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    is_voxel = voxel < last
    sample = tl.program_id(1).to(tl.int64)
    place = labels + sample * of_sample
    place += (voxel // (size_y * size_x)).to(tl.int64) * of_z + (voxel // size_x % size_y) * of_y + (voxel % size_x) * of_x
    own = tl.load(place, mask=is_voxel, other=0).to(tl.int32)
    counts = (is_voxel & (own != ignored))[:, None]
    places = voxel[:, None] * classes + column[None, :]
    inside = is_voxel[:, None] & (column < classes)[None, :]
    logits = tl.load(rows + places, mask=inside, other=float("-inf")).to(tl.float32)
    logits = tl.where(is_voxel[:, None], logits, 0.0)  # a row of nothing would have no largest value
    logits -= tl.max(logits, 1)[:, None]
    logits -= tl.log(tl.sum(tl.exp(logits), 1))[:, None]
    return places, inside, logits, counts, (column[None, :] == own[:, None]) & counts


@triton.jit
def sum_terms(  # type: ignore[no-untyped-def]
    rows, labels, sums, ignored, voxels, classes, each, size_y, size_x, of_sample, of_z, of_y, of_x,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Sum the four terms of each class over a part."""
    sample, column = tl.program_id(1), tl.arange(0, COLUMNS)
    first, last, begin = _part(voxels, classes, each)
    rows += begin
    nothing = tl.full((ROWS, COLUMNS), 0.0, tl.float32)
    intersection, predicted, present, entropy = nothing, nothing, nothing, nothing
    for start in range(first, last, ROWS):
        _, _, logarithms, counts, target = _block(
            rows, labels, ignored, start, last, classes, size_y, size_x, of_sample, of_z, of_y, of_x, ROWS, COLUMNS
        )
        probabilities = tl.where(counts, tl.exp(logarithms), 0.0)
        intersection += tl.where(target, probabilities, 0.0)
        predicted += probabilities
        present += target.to(tl.float32)
        entropy -= tl.where(target, logarithms, 0.0)
    sums += (tl.program_id(0) * tl.num_programs(1) + sample) * 4 * classes + column
    tl.store(sums, tl.sum(intersection, 0), mask=column < classes)
    tl.store(sums + classes, tl.sum(predicted, 0), mask=column < classes)
    tl.store(sums + 2 * classes, tl.sum(present, 0), mask=column < classes)
    tl.store(sums + 3 * classes, tl.sum(entropy, 0), mask=column < classes)


@triton.jit
def propagate(  # type: ignore[no-untyped-def]
    gradient, rows, labels, result, ignored, of_part, of_member, of_term, of_class,
    voxels, classes, each, size_y, size_x, of_sample, of_z, of_y, of_x,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Compute the gradient of a part of the logits."""
    sample, column = tl.program_id(1), tl.arange(0, COLUMNS)
    first, last, begin = _part(voxels, classes, each)
    rows += begin
    result += begin
    gradient += tl.program_id(0) * of_part + sample * of_member + column * of_class
    of_intersection = tl.load(gradient, mask=column < classes, other=0.0)
    of_predicted = tl.load(gradient + of_term, mask=column < classes, other=0.0)
    of_entropy = tl.load(gradient + 3 * of_term, mask=column < classes, other=0.0)
    for start in range(first, last, ROWS):
        places, inside, logarithms, counts, target = _block(
            rows, labels, ignored, start, last, classes, size_y, size_x, of_sample, of_z, of_y, of_x, ROWS, COLUMNS
        )
        probabilities = tl.exp(logarithms)
        behind = of_predicted[None, :] + tl.where(target, of_intersection[None, :], 0.0)
        values = probabilities * (behind - tl.sum(probabilities * behind, 1)[:, None])
        own = tl.sum(tl.where(target, of_entropy[None, :], 0.0), 1)
        values += own[:, None] * (probabilities - target.to(tl.float32))
        tl.store(result + places, tl.where(counts, values, 0.0).to(result.dtype.element_ty), mask=inside)
