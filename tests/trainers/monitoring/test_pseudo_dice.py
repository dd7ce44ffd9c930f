"""Pseudo-Dice against counting by hand."""

import math

import numpy as np
import pytest
import torch

from configs.dataset import DatasetDescription
from trainers.monitoring.pseudo_dice import PseudoDice, mean_of_defined

CPU = torch.device("cpu")


def dice(predicted: np.ndarray, truth: np.ndarray) -> float:
    return 2 * (predicted & truth).sum() / (predicted.sum() + truth.sum())


def test_classes_are_counted_over_all_batches_without_ignored_voxels() -> None:
    labels = {"background": 0, "b": 3, "a": 2, "absent": 7, "ignore": 9}
    counted = PseudoDice(DatasetDescription(name="x", channels=("c",), labels=labels), CPU)
    logits, truth = torch.randn(3, 2, 4, 4, 5, 6), torch.randint(0, 3, (3, 2, 4, 5, 6))
    logits[:, :, 3] = -100
    truth[truth == 0] = torch.where(torch.rand(truth[truth == 0].shape) < 0.3, 4, 0)
    for scores, batch in zip(logits, truth, strict=True):
        counted.add(scores, batch.short())
    valid = (truth != 4).numpy()
    predicted = logits.argmax(2).numpy()[valid]
    expected = [dice(predicted == index, truth.numpy()[valid] == index) for index in (1, 2)]
    assert counted.values()[:2] == pytest.approx(expected)
    assert math.isnan(counted.values()[2])


def test_regions_overlap() -> None:
    description = DatasetDescription(
        name="x", channels=("c",), labels={"background": 0, "whole": (1, 2), "core": 2}, regions_class_order=(1, 2)
    )
    counted = PseudoDice(description, CPU)
    logits, truth = torch.randn(2, 2, 4, 5, 6), torch.randint(0, 3, (2, 4, 5, 6))
    counted.add(logits, truth)
    above = logits.numpy() > 0
    assert counted.values() == pytest.approx([dice(above[:, 0], truth.numpy() > 0), dice(above[:, 1], truth.numpy() == 2)])


def test_undefined_values_are_left_out_of_the_mean() -> None:
    assert mean_of_defined([0.5, math.nan, 1.0]) == 0.75
    assert math.isnan(mean_of_defined([math.nan]))
