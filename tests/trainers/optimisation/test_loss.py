"""The loss against closed forms and an independent one in NumPy, voxel by voxel."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from configs.dataset import DatasetDescription
from trainers.optimisation.loss import ClassLoss, DeepSupervision, RegionLoss, make_loss, nearest, soft_dice, stage_weights

SHAPE = (4, 5, 3)
WHOLE_AND_CORE = ((1, 2), (2,))


def logits_and_labels(seed: int = 0, classes: int = 3, highest: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, classes, *SHAPE, generator=generator)
    return logits, torch.randint(0, highest, (2, *SHAPE), generator=generator).short()


def reference_dice(probabilities: np.ndarray, target: np.ndarray, valid: np.ndarray, batch_dice: bool) -> float:
    """Mean over samples and channels, in loops over lists of voxels; arrays are (B, K, n) and (B, n)."""
    samples = [list(range(len(probabilities)))] if batch_dice else [[index] for index in range(len(probabilities))]
    values = []
    for members in samples:
        for channel in range(probabilities.shape[1]):
            p = np.concatenate([probabilities[index, channel][valid[index]] for index in members])
            t = np.concatenate([target[index, channel][valid[index]] for index in members])
            values.append((2 * (p * t).sum() + 1e-5) / (p.sum() + t.sum() + 1e-5))
    return float(np.mean(values))


def reference_class_loss(logits: Tensor, labels: Tensor, batch_dice: bool, ignore: int | None) -> float:
    scores = logits.double().numpy().reshape(2, logits.shape[1], -1)
    truth = labels.numpy().reshape(2, -1)
    probabilities = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    valid = np.ones(truth.shape, bool) if ignore is None else truth != ignore
    onehot = np.stack([truth == index for index in range(scores.shape[1])], 1)
    chosen = [-math.log(probabilities[b, truth[b, v], v]) for b, v in zip(*np.nonzero(valid), strict=True)]
    entropy = float(np.mean(chosen)) if chosen else 0.0
    return entropy - reference_dice(probabilities[:, 1:], onehot[:, 1:], valid, batch_dice)


def reference_region_loss(logits: Tensor, labels: Tensor, batch_dice: bool, ignore: int | None) -> float:
    probabilities = 1 / (1 + np.exp(-logits.double().numpy().reshape(2, 2, -1)))
    truth = labels.numpy().reshape(2, -1)
    valid = np.ones(truth.shape, bool) if ignore is None else truth != ignore
    target = np.stack([np.isin(truth, members) for members in WHOLE_AND_CORE], 1)
    entropy = -np.where(target, np.log(probabilities), np.log(1 - probabilities))
    channels = [entropy[:, channel][valid].mean() for channel in range(2)]
    mean = np.mean(channels) if ignore is None else np.sum(channels)  # nnU-Net sums them where voxels are ignored
    return float(mean) - reference_dice(probabilities, target, valid, batch_dice)


@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("ignore", [None, 3])
def test_classes(batch_dice: bool, ignore: int | None) -> None:
    logits, labels = logits_and_labels(highest=4 if ignore else 3)
    loss = ClassLoss(batch_dice, ignore)(logits, labels)
    assert float(loss) == pytest.approx(reference_class_loss(logits, labels, batch_dice, ignore), abs=1e-5)


@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("ignore", [None, 3])
def test_regions(batch_dice: bool, ignore: int | None) -> None:
    logits, labels = logits_and_labels(classes=2, highest=4 if ignore else 3)
    loss = RegionLoss(WHOLE_AND_CORE, 4, batch_dice, ignore)(logits, labels)
    assert float(loss) == pytest.approx(reference_region_loss(logits, labels, batch_dice, ignore), abs=1e-5)


def test_batch_dice_is_another_loss() -> None:
    logits, labels = logits_and_labels()
    assert abs(float(ClassLoss(True)(logits, labels) - ClassLoss(False)(logits, labels))) > 1e-4


def test_a_perfect_answer_has_the_lowest_loss() -> None:
    _, labels = logits_and_labels()
    perfect = 40.0 * functional.one_hot(labels.long(), 3).movedim(-1, 1)
    assert float(ClassLoss(False)(perfect, labels)) == pytest.approx(-1, abs=1e-5)
    assert float(ClassLoss(False)(perfect.roll(1, 1), labels)) > 10


def test_a_class_that_is_absent_and_not_predicted_has_dice_one() -> None:
    nothing = torch.zeros(1, 1, *SHAPE)
    assert float(soft_dice(nothing, nothing, None, False)) == 1


def test_ignored_voxels_have_no_gradient_and_all_the_others_have() -> None:
    logits, labels = logits_and_labels(highest=4)
    logits.requires_grad_()
    ClassLoss(False, 3)(logits, labels).backward()
    moved = logits.grad.abs().sum(1) > 0
    assert torch.equal(moved, labels != 3)


@pytest.mark.parametrize("loss", [ClassLoss(False, 3), RegionLoss(WHOLE_AND_CORE, 4, False, 3)])
def test_a_batch_of_ignored_voxels_alone_is_finite(loss: torch.nn.Module) -> None:
    logits = torch.randn(2, 3 if isinstance(loss, ClassLoss) else 2, *SHAPE, requires_grad=True)
    value = loss(logits, torch.full((2, *SHAPE), 3))
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()


def test_half_precision_scores_are_summed_in_single_precision() -> None:
    logits, labels = torch.randn(1, 2, 40, 40, 40), torch.ones(1, 40, 40, 40)
    exact = float(ClassLoss(False)(logits.bfloat16().double().float(), labels))
    assert float(ClassLoss(False)(logits.bfloat16(), labels)) == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize(
    ("stages", "weights"), [(1, [1]), (2, [1, 0]), (3, [2 / 3, 1 / 3, 0]), (5, [8 / 15, 4 / 15, 2 / 15, 1 / 15, 0])]
)
def test_weights_of_deep_supervision_halve_and_leave_out_the_coarsest(stages: int, weights: list[float]) -> None:
    assert stage_weights(stages) == pytest.approx(weights)


def test_deep_supervision_is_the_weighted_sum_over_stages() -> None:
    labels = torch.randint(0, 3, (2, 8, 8, 4))
    stages = [torch.randn(2, 3, *shape) for shape in ((8, 8, 4), (4, 4, 2), (2, 2, 2))]
    loss = ClassLoss(False)
    expected = 2 / 3 * loss(stages[0], labels) + 1 / 3 * loss(stages[1], nearest(labels, (4, 4, 2)))
    assert float(DeepSupervision(loss)(stages, labels)) == pytest.approx(float(expected), abs=1e-6)


def test_labels_go_to_coarser_grids_as_pytorch_does_it() -> None:
    labels = torch.randint(0, 5, (2, 12, 8, 6))
    for shape in ((6, 4, 3), (12, 2, 3), (3, 2, 2), (12, 8, 6)):
        expected = functional.interpolate(labels[:, None].float(), shape, mode="nearest-exact")[:, 0].long()
        assert torch.equal(nearest(labels, shape), expected)


def test_labels_choose_the_loss() -> None:
    plain = DatasetDescription(name="a", channels=("x",), labels={"background": 0, "a": 1, "ignore": 9})
    loss = make_loss(plain, True).loss
    assert isinstance(loss, ClassLoss)
    assert (loss.batch_dice, loss.ignore_index) == (True, 2)
    labels = {"background": 0, "whole": (1, 2), "core": 2}
    regions = DatasetDescription(name="a", channels=("x",), labels=labels, regions_class_order=(1, 2))
    loss = make_loss(regions, False).loss
    assert isinstance(loss, RegionLoss)
    assert loss.table.tolist() == [[False, True, True, False], [False, False, True, False]]
