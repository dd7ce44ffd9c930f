"""Dice and cross-entropy with nnU-Net's constants, for classes or for overlapping regions, at every decoder stage.

loss = CE - Dice,   Dice = mean over classes of (2 sum p t + 1e-5) / (sum p + sum t + 1e-5)

Sums run in float32 over the voxels of a sample (or of the whole batch) that are not ignored. Dice leaves out the background class;
regions have no background. (Isensee et al. 2021; Milletari et al. 2016 for soft Dice.)

Where a case lacks the annotation of some labels, its background voxels may have any of these: the cross-entropy is that of the sum of their
probabilities, and Dice leaves them out for these labels (Shi et al. 2021, "Marginal loss and exclusion loss for partially supervised
multi-organ segmentation", section 3.2).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from configs.dataset import DatasetDescription, possible_classes
from configs.named_parts import import_part
from configs.training import TrainingConfig
from trainers.optimisation.centrelines import centreline_recall
from trainers.optimisation.distributed import add_up, processes, summed
from trainers.optimisation.summed_loss import Grids, loss_on_grids, prefers_sums

SMOOTH = 1e-5
_SPATIAL = (2, 3, 4)


def soft_dice(
    probabilities: Tensor,
    target: Tensor,
    valid: Tensor | None,
    over_batch: bool,
    counted: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the mean Dice over classes (and over samples, unless the batch counts as one volume), a scalar in [0, 1].

    Probabilities and target (0 or 1, or bool) are (B, K, Z, Y, X). The mask `valid` has the voxels that count, (B, 1, Z, Y, X) or for each
    class (B, K, Z, Y, X); None counts all. `counted` (B, K) bool tells which classes of which samples belong to the mean over samples;
    None takes all. `weights` (K) weigh the classes in the mean. A class that is neither present nor predicted has Dice 1.
    """
    if valid is not None:
        probabilities, target = probabilities * valid, target * valid
    intersection = (probabilities * target).sum(_SPATIAL)
    predicted = probabilities.sum(_SPATIAL)
    present = target.sum(_SPATIAL, dtype=torch.float32)
    if over_batch:  # including the parts of the batch in other processes
        intersection, predicted, present = summed(torch.stack([intersection.sum(0), predicted.sum(0), present.sum(0)]))
    dice = (2 * intersection + SMOOTH) / (predicted + present + SMOOTH).clamp_min(1e-8)
    if weights is None and (counted is None or over_batch):
        return dice.mean()
    shares = torch.ones_like(dice) if weights is None else weights.expand_as(dice)
    shares = shares if counted is None or over_batch else shares * counted
    return (dice * shares).sum() / shares.sum().clamp_min(SMOOTH)


@dataclass(frozen=True)
class Terms:
    """What a loss is made of, on one grid."""

    probabilities: Tensor  # (B, K, Z, Y, X) of the labels or regions, without background
    target: Tensor  # (B, K, Z, Y, X) bool
    entropy: Tensor  # cross-entropy of each voxel (B, 1, Z, Y, X), or of each region (B, K, Z, Y, X)
    considered: Tensor | None = None  # voxels whose entropy counts (B, 1, Z, Y, X); None for all
    valid: Tensor | None = None  # voxels that count in Dice, as in `soft_dice`
    counted: Tensor | None = None  # as in `soft_dice`


class Emphasis(nn.Module):
    """Makes a loss of its terms, by default their mean entropy less their mean Dice.

    Args:
        weights: one weight for each label or region, relative to 1, which the background has; None for equal ones.
        top_k: share of the voxels, those with the largest entropy, whose mean counts; None for all.
        centreline: weight of the recall of the labels' centrelines.
    """

    def __init__(self, weights: Sequence[float] | None = None, top_k: float | None = None, centreline: float = 0.0):
        super().__init__()
        self.top_k, self.centreline = top_k, centreline
        self.register_buffer("weights", None if weights is None else torch.tensor(weights), persistent=False)

    weights: Tensor | None

    def forward(self, terms: Terms, over_batch: bool) -> Tensor:
        """Return the loss, a scalar."""
        dice = soft_dice(terms.probabilities, terms.target, terms.valid, over_batch, terms.counted, self.weights)
        loss = self._entropy(terms) - dice
        if self.centreline:
            loss = loss - self.centreline * centreline_recall(terms.probabilities, terms.target, terms.valid)
        return loss

    @property
    def needs_sums_alone(self) -> bool:
        """Whether the loss follows from sums over all voxels of each class."""
        return self.top_k is None and not self.centreline

    def _entropy(self, terms: Terms) -> Tensor:
        entropy, considered = terms.entropy, terms.considered
        if self.weights is not None:
            weights = self.weights.reshape(1, -1, 1, 1, 1)
            if entropy.shape[1] == 1:  # of classes, which exclude each other
                weights = torch.where(terms.target, weights, 0).sum(1, keepdim=True) + ~terms.target.any(1, keepdim=True)
            entropy = entropy * weights
            if self.top_k is None:
                return _mean(entropy, considered) / _mean(weights.expand_as(entropy), considered).clamp_min(SMOOTH)
        if self.top_k is None:
            return _mean(entropy, considered)
        hardest = entropy.flatten() if considered is None else (entropy * considered).flatten()
        return hardest.topk(max(1, round(self.top_k * len(hardest)))).values.mean()


class ClassLoss(nn.Module):
    """Dice and cross-entropy for mutually exclusive classes.

    Args:
        batch_dice: whether Dice treats the batch as one volume.
        ignore_index: class index of voxels to ignore, or None.
        possible: class indices of voxels that may have one of several classes, with these; see `configs.dataset.possible_classes`.
        classes: number of classes, which `possible` needs.
        emphasis: how the terms become a loss.
    """

    def __init__(
        self,
        batch_dice: bool,
        ignore_index: int | None = None,
        possible: Mapping[int, Sequence[int]] | None = None,
        classes: int = 0,
        emphasis: Emphasis | None = None,
    ):
        super().__init__()
        self.batch_dice = batch_dice
        self.ignore_index = ignore_index
        self.emphasis = emphasis or Emphasis()
        self.register_buffer("table", _possible_table(possible, classes) if possible else None, persistent=False)

    table: Tensor | None

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss for logits (B, K, Z, Y, X) and class indices (B, Z, Y, X)."""
        logits, labels = logits.float(), labels.long()
        terms = self._terms(logits, labels) if self.table is None else self._partial(logits, labels, self.table)
        return self.emphasis(terms, self.batch_dice)

    def on_grids(self, grids: Grids) -> Tensor:
        """Return the loss on each of L grids, (L,), by kernels for all terms at once where these are right and faster."""
        emphasis = self.emphasis

        def fused(grids: Grids) -> Tensor:
            return loss_on_grids(grids, self.batch_dice, self.ignore_index, emphasis.weights)

        def plain(grids: Grids) -> Tensor:
            return torch.stack([self(*pair) for pair in grids])

        settings = (self.batch_dice, self.ignore_index, emphasis.weights is None)
        has_sums = self.table is None and emphasis.needs_sums_alone
        return fused(grids) if has_sums and prefers_sums(grids, settings, fused, plain) else plain(grids)

    def _terms(self, logits: Tensor, labels: Tensor) -> Terms:
        valid = None
        if self.ignore_index is not None:
            valid = (labels != self.ignore_index)[:, None]
            labels = labels.where(valid[:, 0], 0)
        target = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, labels[:, None], True)
        entropy = functional.cross_entropy(logits, labels, reduction="none")
        return Terms(logits.softmax(1)[:, 1:], target[:, 1:], entropy[:, None], valid, valid)

    def _partial(self, logits: Tensor, labels: Tensor, table: Tensor) -> Terms:
        """Return the terms where voxels may have one of several classes. Ignored voxels may have any."""
        possible = table[labels].movedim(-1, 1)  # (B, K, Z, Y, X) bool
        sure = possible.sum(1, keepdim=True) == 1
        valid = sure | ~possible  # for each class: the voxel has it, or does not have it
        ignored = possible.all(1, keepdim=True)
        has_label = (valid | ignored).flatten(2).all(-1)  # a sample whose case lacks a label has no say about it
        entropy = logits.logsumexp(1) - logits.masked_fill(~possible, -torch.inf).logsumexp(1)
        considered, target = None if self.ignore_index is None else ~ignored, possible[:, 1:] & sure
        return Terms(logits.softmax(1)[:, 1:], target, entropy[:, None], considered, valid[:, 1:], has_label[:, 1:])


class RegionLoss(nn.Module):
    """Dice and binary cross-entropy for regions, which may overlap.

    Args:
        members: class indices of each region.
        classes: number of class indices, including the ignored one.
        batch_dice: whether Dice treats the batch as one volume.
        ignore_index: class index of voxels to ignore, or None.
        emphasis: how the terms become a loss.
    """

    table: Tensor

    def __init__(
        self,
        members: Sequence[Sequence[int]],
        classes: int,
        batch_dice: bool,
        ignore_index: int | None = None,
        emphasis: Emphasis | None = None,
    ):
        super().__init__()
        self.batch_dice = batch_dice
        self.ignore_index = ignore_index
        self.emphasis = emphasis or Emphasis()
        self.register_buffer("table", region_table(members, classes))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss for region logits (B, K, Z, Y, X) and class indices (B, Z, Y, X)."""
        logits = logits.float()
        target = region_target(labels, self.table)
        valid = None if self.ignore_index is None else (labels != self.ignore_index)[:, None]
        entropy = functional.binary_cross_entropy_with_logits(logits, target.float(), reduction="none")
        return self.emphasis(Terms(logits.sigmoid(), target, entropy, valid, valid), self.batch_dice)


class DeepSupervision(nn.Module):
    """Weighted sum of a loss over decoder stages, finest first; labels are resampled to each grid by nearest neighbours.

    The weights are 1, 1/2, 1/4, ..., with 0 for the coarsest of several stages, divided by their sum.
    """

    def __init__(self, loss: nn.Module):
        super().__init__()
        self.loss = loss
        self._weights = torch.empty(0)

    def forward(self, logits: Tensor | Sequence[Tensor], labels: Tensor) -> Tensor:
        """Return the loss for the logits (B, K, Z, Y, X) of one or several stages and labels (B, Z, Y, X) on the finest grid."""
        stages = [logits] if isinstance(logits, Tensor) else list(logits)
        weights = [weight for weight in stage_weights(len(stages)) if weight]
        grids = [(stage, nearest(labels, stage.shape[2:])) for stage in stages[: len(weights)]]
        terms = (
            self.loss.on_grids(grids) if isinstance(self.loss, ClassLoss) else torch.stack([self.loss(*grid) for grid in grids])
        )
        if self._weights.shape != terms.shape or self._weights.device != terms.device:
            self._weights = torch.tensor(weights).to(terms.device)  # kept, since a GPU waits for numbers of the host
        return (terms * self._weights).sum()


def make_loss(description: DatasetDescription, batch_dice: bool, config: TrainingConfig | None = None) -> nn.Module:
    """Return the loss for a dataset's labels, where Dice may treat the batch as one volume, or the user's own `package.module:Class`.

    Its emphasis is that of the settings; None has the defaults.

    The user's module is constructed with `description` and `batch_dice`, and maps logits (B, K, Z, Y, X), or a list of them with the finest
    stage first, and class indices (B, Z, Y, X) to a scalar.
    """
    config = config or TrainingConfig()
    if config.loss_class is not None:
        own: nn.Module = import_part(config.loss_class, "loss class")(description, batch_dice)
        return own
    given = config.loss_weights
    weights = [given.get(name, 1.0) for name in description.foreground] if given else None
    emphasis = Emphasis(weights, config.top_k, config.centreline)
    if not description.has_regions:
        possible, classes = possible_classes(description), len(description.values)
        return DeepSupervision(ClassLoss(batch_dice, description.ignore_index, possible, classes, emphasis))
    members = [description.class_indices(name) for name in description.foreground]
    return DeepSupervision(RegionLoss(members, len(description.values) + 1, batch_dice, description.ignore_index, emphasis))


def stage_weights(stages: int) -> list[float]:
    """Return the weights of deep supervision, finest stage first; their sum is 1."""
    weights = [0.5**stage for stage in range(stages)]
    if stages > 1:
        weights[-1] = 0.0
    return [weight / sum(weights) for weight in weights]


def nearest(labels: Tensor, shape: Sequence[int]) -> Tensor:
    """Resample labels (B, Z, Y, X) to a coarser grid with the same borders, taking the voxel under each new centre."""
    for axis, size in enumerate(shape, start=1):
        before = labels.shape[axis]
        if before % size == 0:  # the same voxels as a view
            step = before // size
            labels = labels[(slice(None),) * axis + (slice(step // 2, None, step),)]
        else:
            centres = ((torch.arange(size, device=labels.device) + 0.5) * (before / size)).long()
            labels = labels.index_select(axis, centres)
    return labels


def _possible_table(possible: Mapping[int, Sequence[int]], classes: int) -> Tensor:
    """Return a table (indices, classes) bool of the classes that voxels of each class index may have; of the ignored index, all."""
    table = torch.zeros(max(possible) + 1, classes, dtype=torch.bool)
    table[range(classes), range(classes)] = True
    table[classes] = True
    for index, several in possible.items():
        table[index, list(several)] = True
    return table


def region_table(members: Sequence[Sequence[int]], classes: int) -> Tensor:
    """Return a table (K, classes) bool of which class indices belong to each region."""
    table = torch.zeros(len(members), classes, dtype=torch.bool)
    for region, indices in enumerate(members):
        table[region, list(indices)] = True
    return table


def region_target(labels: Tensor, table: Tensor) -> Tensor:
    """Convert class indices (B, Z, Y, X) to regions (B, K, Z, Y, X) bool."""
    return table[:, labels.long()].movedim(0, 1)


def _mean(entropy: Tensor, valid: Tensor | None) -> Tensor:
    """Return the mean over channels and voxels; with ignored voxels, the sum over channels averaged over the others, 0 if none.

    Summing over channels instead of averaging is nnU-Net's behaviour for regions; classes have one channel.
    """
    if valid is None:
        return entropy.mean()
    count = add_up(valid.sum()) / processes()
    return (entropy * valid).sum() / count.clamp_min(1 / processes())
