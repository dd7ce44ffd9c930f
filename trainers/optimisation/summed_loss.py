"""Dice and cross-entropy of classes from sums over voxels, which a GPU takes by one kernel for each grid in either pass.

The values are those of `trainers.optimisation.loss`, which states the formula, up to rounding. All grids of deep supervision go through
the formula together, so that the loss starts about fifty small kernels instead of a hundred and fifty.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from se_unet.layers.fused.choice import are_allowed, prefers_fused
from se_unet.layers.fused.class_sums import ENTROPY, PRESENT, class_sums, suits
from trainers.optimisation.distributed import add_up, processes, summed

SMOOTH = 1e-5
Grids = Sequence[tuple[Tensor, Tensor]]  # logits (B, K, Z, Y, X) and class indices (B, Z, Y, X) of each decoder stage


def loss_on_grids(grids: Grids, over_batch: bool, ignored: int | None, weights: Tensor | None) -> Tensor:
    """Return entropy less Dice on each of L grids, (L,).

    Args:
        grids: logits and labels of each grid, of the same batch and classes.
        over_batch: whether Dice treats the batch as one volume.
        ignored: class index of voxels that do not count, or None.
        weights: weights (K - 1) of the labels relative to 1, which the background has; None for equal ones.
    """
    sums = torch.stack([class_sums(logits, labels, ignored) for logits, labels in grids]).sum(1)
    return loss_of_sums(sums, over_batch, ignored is not None, weights)


def loss_of_sums(sums: Tensor, over_batch: bool, are_ignored: bool, weights: Tensor | None) -> Tensor:
    """Return the losses (L,) of the sums (L, B, 4, K) of `se_unet.layers.fused.class_sums`; arguments as in `loss_on_grids`."""
    totals = summed(sums.sum(1, keepdim=True)) if over_batch else sums  # including the parts of the batch in other processes
    intersection, predicted, present, _ = totals.unbind(2)
    dice = ((2 * intersection + SMOOTH) / (predicted + present + SMOOTH))[..., 1:]
    entropy, own_present = sums[:, :, ENTROPY], sums[:, :, PRESENT].detach()
    count = own_present.sum((1, 2))
    if are_ignored:
        count = (add_up(count) / processes()).clamp_min(1 / processes())
    if weights is None:
        return entropy.sum((1, 2)) / count - dice.mean((1, 2))
    factors = functional.pad(weights, (1, 0), value=1.0)
    share = ((own_present * factors).sum((1, 2)) / count).clamp_min(SMOOTH)
    of_classes = (dice * weights).sum((1, 2)) / (dice.shape[1] * weights.sum()).clamp_min(SMOOTH)
    return (entropy * factors).sum((1, 2)) / count / share - of_classes


def prefers_sums(
    grids: Grids, settings: tuple[object, ...], fused: Callable[[Grids], Tensor], plain: Callable[[Grids], Tensor]
) -> bool:
    """Return whether `fused`, a loss by `loss_on_grids`, is to be used for the grids on a GPU instead of `plain`; both return (L,).

    Several processes keep to `plain`: each would choose by itself, and those that chose otherwise would wait for each other forever.

    Args:
        grids: logits and labels as in use.
        settings: everything else on which the answer depends.
        fused, plain: functions that should give the same losses.
    """
    if grids[0][0].device.type != "cuda" or processes() > 1 or not are_allowed() or not all(suits(*pair) for pair in grids):
        return False
    shapes = [logits.shape[1:] for logits, _ in grids]
    finest = grids[0][0]
    key = ("class sums", finest.device, finest.dtype, *shapes, *settings)
    like = finest.new_empty(1).expand(1, sum(map(torch.Size.numel, shapes)))  # of all logits of one sample in one row
    return prefers_fused(key, lambda row: _gradient(fused, row, grids), lambda row: _gradient(plain, row, grids), like)


def _gradient(loss: Callable[[Grids], Tensor], row: Tensor, grids: Grids) -> Tensor:
    """Return the gradient of the logits of one sample, which are in a row (1, all values), with channels innermost."""
    with torch.enable_grad():
        given = row.detach().requires_grad_()
        parts = given.split([logits[0].numel() for logits, _ in grids], 1)
        examples = [
            (part.view(1, *logits.shape[2:], logits.shape[1]).movedim(-1, 1), labels[:1])
            for part, (logits, labels) in zip(parts, grids, strict=True)
        ]
        return torch.autograd.grad(loss(examples).sum(), given)[0]
