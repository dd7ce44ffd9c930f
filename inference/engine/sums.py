"""Sums over voxels that tell how sure a network is of its decision, for each label."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Numbers = NDArray[np.float64]


def decide(probabilities: Tensor, regions: bool) -> Tensor:
    """Return the most probable class (Z, Y, X) int16, or the regions (R, Z, Y, X) above 1/2, of probabilities (K, Z, Y, X)."""
    return probabilities > 0.5 if regions else probabilities.max(0).indices.to(torch.int16)


def sums_of(probabilities: Tensor, regions: bool) -> Tensor:
    """Return sum(p d), sum(p) and sum(d) over voxels (3, labels) float64 of probabilities p (K, Z, Y, X) and their decision d."""
    whole = probabilities.sum((1, 2, 3), dtype=torch.float64)
    if regions:
        decided = probabilities > 0.5
        return torch.stack(
            [(probabilities * decided).sum((1, 2, 3), dtype=torch.float64), whole, decided.sum((1, 2, 3)).double()]
        )
    best = probabilities.max(0)
    classes, chosen = len(probabilities), best.indices.flatten()
    both = torch.bincount(chosen, best.values.flatten().double(), minlength=classes)
    return torch.stack([both, whole, torch.bincount(chosen, minlength=classes).double()])[:, 1:]


def dice_of(sums: Tensor) -> Numbers:
    """Return the Dice that the network expects of each label, 2 sum(p d) / (sum(p) + sum(d)); 0 where it found nothing."""
    both, probable, decided = sums.cpu().numpy()
    return np.where(decided > 0, 2 * both / np.maximum(probable + decided, 1e-12), 0.0)


def diameters_of(sums: Tensor, voxel_volume: float, factor: float) -> Numbers:
    """Return `factor` times the diameter in mm of a ball of what was decided for, for each label; `voxel_volume` is in mm^3."""
    return factor * np.cbrt(6 / math.pi * voxel_volume * sums[2].cpu().numpy())


def label_masks(decision: Tensor, labels: int) -> Tensor:
    """Return a mask (labels, Z, Y, X) for each label of class indices (Z, Y, X), or regions (R, Z, Y, X) as they are."""
    if decision.dim() == 4:
        return decision
    return decision == torch.arange(1, labels + 1, device=decision.device, dtype=decision.dtype).reshape(-1, 1, 1, 1)


def overlap_of(one: Tensor, other: Tensor, labels: int) -> Numbers:
    """Return the Dice of each label between two decisions; 0 where the label is in neither."""
    if one.dim() == 4:
        both, first, second = (part.sum((1, 2, 3)) for part in (one & other, one, other))
    else:
        both, first, second = (_counts(part, labels) for part in (one[one == other], one, other))
    return (2 * both / (first + second).clamp_min(1)).double().cpu().numpy()


def _counts(classes: Tensor, labels: int) -> Tensor:
    return torch.bincount(classes.flatten().int(), minlength=labels + 1)[1 : labels + 1]
