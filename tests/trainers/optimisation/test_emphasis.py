"""Losses for small and thin structures: weights of labels, the hardest voxels, centrelines."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from configs.dataset import DatasetDescription
from configs.errors import InputError
from configs.training import TrainingConfig
from trainers.job import check_label_weights
from trainers.optimisation.centrelines import centreline_recall, centrelines
from trainers.optimisation.loss import make_loss

PLAIN = DatasetDescription(name="x", channels=("MR",), labels={"background": 0, "a": 1, "b": 2})
IGNORING = DatasetDescription(name="x", channels=("MR",), labels={"background": 0, "a": 1, "b": 2, "ignore": 3})
REGIONS = DatasetDescription(
    name="x", channels=("MR",), labels={"background": 0, "a": (1, 2), "b": (2,)}, regions_class_order=(1, 2)
)
PARTLY = PLAIN.model_copy(update={"annotated": (("a",),)})
KINDS = {"classes": PLAIN, "ignored voxels": IGNORING, "regions": REGIONS, "partly annotated": PARTLY}


def draw(description: DatasetDescription, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, description.output_channels, 4, 5, 6, generator=generator)
    most = 4 if description in (IGNORING, PARTLY) else 3
    labels = torch.randint(most, (2, 4, 5, 6), generator=generator)
    if description == PARTLY:
        labels = labels.where(labels < 3, description.partial_index(("a",)))
    return logits, labels


def loss(description: DatasetDescription, logits: Tensor, labels: Tensor, **settings: Any) -> float:
    return float(make_loss(description, False, TrainingConfig(**settings))(logits, labels))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", [{"loss_weights": {"a": 1.0}}, {"top_k": 1.0}, {"centreline": 0.0}])
def test_equal_weights_and_all_voxels_change_nothing(kind: str, settings: dict[str, Any]) -> None:
    description = KINDS[kind]
    logits, labels = draw(description)
    if "top_k" in settings and kind == "ignored voxels":
        labels = labels.where(labels < 3, 0)  # otherwise the share is of all voxels, ignored ones included
    if "top_k" in settings and kind == "regions":
        return  # the ordinary loss is the mean over voxels and regions as well
    assert loss(description, logits, labels, **settings) == pytest.approx(loss(description, logits, labels), abs=1e-5)


@pytest.mark.parametrize("kind", ["classes", "regions"])
def test_a_label_without_weight_is_not_learned(kind: str) -> None:
    description = KINDS[kind]
    logits, labels = draw(description)
    index = description.output_channels - 1  # of b
    changed = labels.where(labels != 2, 1 if description.has_regions else 2)
    config = TrainingConfig(loss_weights={"b": 0.0})
    leaf = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(make_loss(description, False, config)(leaf, labels), leaf)
    whole = logits.clone().requires_grad_()
    (control,) = torch.autograd.grad(make_loss(description, False)(whole, labels), whole)
    where = (labels == 2)[:, None].expand_as(gradient)
    if description.has_regions:
        assert float(gradient[:, index].abs().max()) == 0 < float(control[:, index].abs().max())
        assert loss(description, logits, labels, loss_weights={"b": 0.0}) == pytest.approx(
            loss(description, logits, changed, loss_weights={"b": 0.0}), abs=1e-6
        )
    else:
        of_entropy = make_loss(description, False, config).loss.emphasis._entropy
        terms = make_loss(description, False, config).loss._terms(whole, labels)
        (only,) = torch.autograd.grad(of_entropy(terms), whole)
        assert float(only[where].abs().max()) == 0 < float(control[where].abs().max())


def test_a_larger_weight_pulls_more() -> None:
    logits, labels = draw(PLAIN)
    pulls = []
    for weight in (0.1, 1.0, 10.0):
        leaf = logits.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(make_loss(PLAIN, False, TrainingConfig(loss_weights={"b": weight}))(leaf, labels), leaf)
        pulls.append(-float(gradient[:, 2][labels == 2].sum()))
    assert pulls == sorted(pulls) and pulls[0] < pulls[-1]


@pytest.mark.parametrize("kind", KINDS)
def test_the_hardest_voxels_have_the_largest_mean(kind: str) -> None:
    description = KINDS[kind]
    logits, labels = draw(description)
    values = [loss(description, logits, labels, top_k=share) for share in (0.01, 0.1, 0.5, 1.0)]
    assert values == sorted(values, reverse=True) and values[0] > values[-1]


def tube() -> np.ndarray:
    mask = np.zeros((1, 1, 12, 12, 20), bool)
    mask[..., 4:9, 4:9, 2:18] = True
    return mask


def test_centrelines_are_thin_and_inside() -> None:
    lines = centrelines(tube())
    assert lines.any() and not (lines & ~tube()).any()
    assert lines.sum() < 0.7 * tube().sum() and lines[0, 0, :, :, 10].any()
    single = np.zeros((1, 1, 3, 3, 3), bool)
    single[0, 0, 1, 1, 1] = True
    assert np.array_equal(centrelines(single), single)


def test_a_gap_costs_more_than_the_same_voxels_at_the_rim() -> None:
    """Dice does not tell the two apart (control)."""
    target = torch.from_numpy(tube())
    gap, rim = target.float(), target.float()
    gap[..., 4:9, 4:9, 9:11] = 0
    rim.flatten()[torch.from_numpy(np.flatnonzero(tube() & ~centrelines(tube()))[:50])] = 0
    assert float(gap.sum()) == float(rim.sum()), "the same Dice"
    assert float(centreline_recall(gap, target)) < 0.95 < float(centreline_recall(rim, target)) <= 1.0
    assert float(centreline_recall(target.float(), target)) == pytest.approx(1)
    assert float(centreline_recall(gap, target & False)) == 1.0
    description = DatasetDescription(name="x", channels=("MR",), labels={"background": 0, "a": 1})
    labels, logits = target[:, 0].long(), torch.cat([-4 * gap + 2, 4 * gap - 2], 1)
    assert loss(description, logits, labels, centreline=1.0) < loss(description, logits, labels)


def test_weights_of_unknown_labels_are_refused() -> None:
    with pytest.raises(InputError, match="setting `loss_weights`: the dataset has no label `c` to weigh"):
        check_label_weights(TrainingConfig(loss_weights={"c": 2.0}), PLAIN)
