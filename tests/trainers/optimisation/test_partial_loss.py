"""The loss of cases in which some labels were not annotated."""

import math

import pytest
import torch
from torch import Tensor

from configs.dataset import DatasetDescription, possible_classes
from trainers.monitoring.pseudo_dice import PseudoDice
from trainers.optimisation.loss import ClassLoss, make_loss

LABELS = {"background": 0, "a": 1, "b": 2}
PARTLY = DatasetDescription(name="x", channels=("MR",), labels=LABELS, annotated=(("a",), ("b",)))
WHOLE = DatasetDescription(name="x", channels=("MR",), labels=LABELS)
A_OR_NONE, B_OR_NONE = PARTLY.partial_index(("b",)), PARTLY.partial_index(("a",))  # which label may be missed


def draw(seed: int = 0, indices: tuple[int, ...] = (0, 1, 2)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, 4, 5, 6, generator=generator)
    labels = torch.tensor(indices)[torch.randint(len(indices), (2, 4, 5, 6), generator=generator)]
    return logits, labels


@pytest.mark.parametrize("batch_dice", [False, True])
def test_whole_annotations_give_the_ordinary_loss(batch_dice: bool) -> None:
    logits, labels = draw()
    partly, whole = (make_loss(description, batch_dice) for description in (PARTLY, WHOLE))
    assert float(partly(logits, labels)) == pytest.approx(float(whole(logits, labels)), abs=1e-6)


def test_the_entropy_is_that_of_the_sum_of_the_possible_classes() -> None:
    """A voxel that may be background or b says nothing about these two, whatever their shares are."""
    logits, labels = draw(indices=(1, B_OR_NONE))
    loss = ClassLoss(False, None, possible_classes(PARTLY), 3)
    probabilities = logits.softmax(1)
    possible = torch.stack([labels != 1, labels == 1, labels != 1], 1)
    expected = -(probabilities * possible).sum(1).log().mean()
    taken = torch.stack([labels == 1], 1)
    both = (probabilities[:, 1:2] * taken).sum((2, 3, 4))
    dice = (2 * both + 1e-5) / (probabilities[:, 1:2].sum((2, 3, 4)) + taken.sum((2, 3, 4)) + 1e-5)
    assert float(loss(logits, labels)) == pytest.approx(float(expected - dice.mean()), abs=1e-5)


def test_a_missing_label_is_not_taught_away() -> None:
    """The gradient of a voxel that may be b does not push b down, while that of background does (control)."""
    logits = torch.zeros(1, 3, 2, 2, 2, requires_grad=True)
    for index, is_pushed in ((B_OR_NONE, False), (0, True)):
        labels = torch.full((1, 2, 2, 2), index)
        (gradient,) = torch.autograd.grad(make_loss(PARTLY, False)(logits, labels), logits)
        assert (float(gradient[:, 2].sum()) > 0) == is_pushed
        assert float(gradient[:, 1].sum()) > 0, "the annotated label is absent there"


def test_samples_do_not_vote_for_labels_that_they_lack() -> None:
    """The Dice of a label is the mean over the samples that have its annotation."""
    logits, labels = draw(indices=(0, 1, 2))
    partial = labels.clone()
    partial[1][partial[1] != 1] = B_OR_NONE
    loss = ClassLoss(False, None, possible_classes(PARTLY), 3)
    whole = torch.stack([_dice(logits, labels, sample, label) for sample, label in ((0, 1), (0, 2), (1, 1))]).mean()
    entropy = torch.cat([_entropy(logits[0], labels[0]).flatten(), _partial_entropy(logits[1], partial[1]).flatten()]).mean()
    assert float(loss(logits, partial)) == pytest.approx(float(entropy - whole), abs=1e-5)


def _dice(logits: Tensor, labels: Tensor, sample: int, label: int) -> Tensor:
    share, truth = logits.softmax(1)[sample, label], (labels[sample] == label).float()
    return (2 * (share * truth).sum() + 1e-5) / (share.sum() + truth.sum() + 1e-5)


def _entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return -logits.log_softmax(0).gather(0, labels[None])


def _partial_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    shares = logits.softmax(0)
    return -torch.where(labels == 1, shares[1], shares[0] + shares[2]).log()


def test_ignored_voxels_count_for_nothing() -> None:
    description = PARTLY.model_copy(update={"labels": {**LABELS, "ignore": 7}})
    logits, labels = draw(indices=(0, 1, 2, 3, A_OR_NONE, B_OR_NONE))
    other = logits.detach() + 5 * (labels == 3)[:, None] * torch.randn(1, 3, 1, 1, 1)
    loss = make_loss(description, False)
    assert math.isfinite(float(loss(logits, labels)))
    plain = make_loss(DatasetDescription(name="x", channels=("MR",), labels={**LABELS, "ignore": 7}), False)
    kept = labels.where(labels <= 3, 0)
    assert float(loss(logits, kept)) == pytest.approx(float(plain(logits, kept)), abs=1e-5)
    assert float(loss(other, kept)) == pytest.approx(float(plain(other, kept)), abs=1e-5)


def test_the_running_dice_leaves_out_what_is_not_known() -> None:
    dice = PseudoDice(PARTLY, torch.device("cpu"))
    labels = torch.full((1, 4, 4, 4), B_OR_NONE)
    labels[0, 0] = 1
    logits = torch.zeros(1, 3, 4, 4, 4)
    logits[:, 2], logits[0, 1, 0] = 1, 2  # b everywhere but in the plane of a
    dice.add(logits, labels)
    assert dice.values()[0] == 1.0 and math.isnan(dice.values()[1])
    control = PseudoDice(WHOLE, torch.device("cpu"))
    control.add(logits, labels.where(labels == 1, 0))
    assert control.values()[1] == 0.0
