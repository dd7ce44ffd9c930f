"""Sums over the voxels of class probabilities, of which losses of Dice and cross-entropy are made, on a GPU by one kernel in either pass.

For the logits of a sample, its class indices t and each class k, over the voxels that are not ignored:

    INTERSECTION   sum p_k [t = k]      PREDICTED   sum p_k      PRESENT   sum [t = k]      ENTROPY   - sum log(p_k) [t = k]

The operator `se_unet::class_sums` is one call for compilers, fake tensors and counters of kernels. It gives the sums over each of
`PARTS` equal parts of the voxels, since programs of a GPU that add to the same number do so in an order that is chance.
"""

from typing import Any

import torch
from torch import Tensor

from se_unet.layers.fused.choice import TOLERANCE

INTERSECTION, PREDICTED, PRESENT, ENTROPY = range(4)
PARTS = 256  # enough for all multiprocessors of a GPU
MOST_CLASSES = 1024  # a block of the kernel holds all classes of its voxels
NOTHING = -(2**31)  # class index that no voxel has


def suits(logits: Tensor, labels: Tensor) -> bool:
    """Return whether the kernel knows logits (B, K, Z, Y, X) and class indices (B, Z, Y, X) of these types and sizes."""
    is_known = logits.dtype in TOLERANCE and not labels.is_floating_point()
    return is_known and logits.shape[1] <= MOST_CLASSES and logits[0].numel() < 2**31


def class_sums(logits: Tensor, labels: Tensor, ignored: int | None) -> Tensor:
    """Return the four sums over each part of the voxels, (PARTS, B, 4, K) float32.

    Args:
        logits: (B, K, Z, Y, X), best with channels innermost in memory.
        labels: class indices (B, Z, Y, X), in any layout.
        ignored: class index of voxels that do not count; None counts all.
    """
    rows = logits.movedim(1, -1).contiguous()
    result: Tensor = _class_sums(rows.flatten(1, -2), labels, NOTHING if ignored is None else ignored)
    return result


@torch.library.custom_op("se_unet::class_sums", mutates_args=(), device_types="cpu")
def _class_sums(rows: Tensor, labels: Tensor, ignored: int) -> Tensor:
    """Return the sums of rows (B, voxels, K) with class indices (B, Z, Y, X) -> (PARTS, B, 4, K)."""
    logarithms, target, counts = _terms(rows, labels, ignored)
    probabilities = logarithms.exp() * counts
    each = [probabilities * target, probabilities, target, torch.where(target > 0, -logarithms, 0)]
    return torch.stack([_in_parts(one).sum(2) for one in each], 2).transpose(0, 1).contiguous()


@_class_sums.register_kernel("cuda")
def _class_sums_on_gpu(rows: Tensor, labels: Tensor, ignored: int) -> Tensor:
    from se_unet.layers.fused.class_sums_kernel import launch  # needs Triton, which is not everywhere

    return launch(rows, labels, ignored)


@_class_sums.register_fake
def _shape(rows: Tensor, labels: Tensor, ignored: int) -> Tensor:
    return rows.new_empty(PARTS, rows.shape[0], 4, rows.shape[2], dtype=torch.promote_types(rows.dtype, torch.float32))


@torch.library.custom_op("se_unet::class_sums_backward", mutates_args=(), device_types="cpu")
def _backward(gradient: Tensor, rows: Tensor, labels: Tensor, ignored: int) -> Tensor:
    """Return the gradient of rows (B, voxels, K) from that of their sums (PARTS, B, 4, K)."""
    logarithms, target, counts = _terms(rows, labels, ignored)
    probabilities = logarithms.exp()
    each = -(-rows.shape[1] // PARTS)
    of_voxels = gradient.transpose(0, 1).repeat_interleave(each, 1)[:, : rows.shape[1]]  # (B, voxels, 4, K)
    behind = of_voxels[:, :, PREDICTED] + target * of_voxels[:, :, INTERSECTION]
    of_entropy = (target * of_voxels[:, :, ENTROPY]).sum(-1, keepdim=True)
    result = probabilities * (behind - (probabilities * behind).sum(-1, keepdim=True)) + of_entropy * (probabilities - target)
    return (result * counts).to(rows.dtype)


@_backward.register_kernel("cuda")
def _backward_on_gpu(gradient: Tensor, rows: Tensor, labels: Tensor, ignored: int) -> Tensor:
    from se_unet.layers.fused.class_sums_kernel import launch_backward

    return launch_backward(gradient, rows, labels, ignored)


@_backward.register_fake
def _backward_shape(gradient: Tensor, rows: Tensor, labels: Tensor, ignored: int) -> Tensor:
    return torch.empty_like(rows)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    rows, labels, ctx.ignored = inputs
    ctx.save_for_backward(rows, labels)


def _gradient(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
    return _backward(gradient, *ctx.saved_tensors, ctx.ignored), None, None


_class_sums.register_autograd(_gradient, setup_context=_keep)


def _terms(rows: Tensor, labels: Tensor, ignored: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the logarithms of probabilities (B, voxels, K), which voxels count as each class, and which count at all (B, voxels, 1)."""
    own = labels.flatten(1).int()[:, :, None]  # whose numbers include NOTHING
    counts = own != ignored
    target = (own == torch.arange(rows.shape[2], device=rows.device)) & counts
    number_type = torch.promote_types(rows.dtype, torch.float32)
    return rows.to(number_type).log_softmax(-1), target.to(number_type), counts


def _in_parts(values: Tensor) -> Tensor:
    """Divide (B, voxels, K) -> (B, PARTS, voxels of a part, K), with zeros after the last voxel."""
    each = -(-values.shape[1] // PARTS)
    padded = torch.nn.functional.pad(values, (0, 0, 0, PARTS * each - values.shape[1]))
    return padded.unflatten(1, (PARTS, each))
