"""Dice over all validation patches together, an estimate during training. Whole volumes are scored at the end."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from configs.dataset import DatasetDescription, possible_classes
from trainers.optimisation.distributed import add_up
from trainers.optimisation.loss import region_table, region_target


class PseudoDice:
    """Dice of each foreground label or region over all batches: 2 TP / (2 TP + FP + FN), NaN for labels that do not occur."""

    def __init__(self, description: DatasetDescription, device: torch.device):
        members = [description.class_indices(name) for name in description.foreground]
        indices = len(description.values) + 1 + len(description.annotated)
        self._table = region_table(members, indices).to(device)
        self._unsure = region_table([_where_unsure(description, of) for of in members], indices).to(device)
        self._is_partial = bool(description.annotated)
        self._exclusive = not description.has_regions
        self._ignore = description.ignore_index
        self._both = torch.zeros(len(members), dtype=torch.int64, device=device)
        self._either = torch.zeros_like(self._both)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: logits (B, K, Z, Y, X) and class indices (B, Z, Y, X)."""
        target = region_target(labels, self._table)
        predicted = region_target(logits.argmax(1), self._table) if self._exclusive else logits > 0
        if self._ignore is not None:
            valid = (labels != self._ignore)[:, None]
            target, predicted = target & valid, predicted & valid
        if self._is_partial:
            predicted = predicted & ~region_target(labels, self._unsure)
        over = (0, 2, 3, 4)
        self._both += (predicted & target).sum(over)
        self._either += predicted.sum(over) + target.sum(over)

    def values(self) -> list[float]:
        """Return the Dice of each label over the batches of all processes, in the description's order."""
        counts = add_up(torch.stack([self._both, self._either]))
        pairs = zip(*counts.tolist(), strict=True)
        return [2 * both / either if either else math.nan for both, either in pairs]


def _where_unsure(description: DatasetDescription, members: Sequence[int]) -> list[int]:
    """Return the class indices of voxels that may or may not have a label, given the label's own class indices."""
    return [index for index, several in possible_classes(description).items() if set(several) & set(members)]


def mean_of_defined(values: list[float]) -> float:
    """Return the mean of the values that are not NaN, or NaN if there are none."""
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan
