"""Entropy and disagreement: known values, and volumes that lie on the image."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy as scipy_entropy
from torch import nn

from configs.plan import ModelPlan
from inference import PredictionOptions, Predictor
from inference.engine.assemble import Wanted
from inference.engine.uncertainty import disagreement, entropy
from inference.model import Model
from preprocessing.geometry.affine import Geometry
from tests.inference.engine.test_ensemble import Constant
from tests.inference.models import plan


def test_entropy_agrees_with_scipy() -> None:
    probabilities = torch.randn(5, 7, 8, 9).mul(3).softmax(0)
    np.testing.assert_allclose(entropy(probabilities, False), scipy_entropy(probabilities.numpy(), base=2, axis=0), atol=1e-5)
    regions = torch.rand(2, 50)
    both = sum(scipy_entropy(np.stack([region, 1 - region]), base=2, axis=0) for region in regions.numpy())
    np.testing.assert_allclose(entropy(regions, True), both, atol=1e-5)


def test_certain_and_ignorant() -> None:
    assert entropy(torch.eye(3)[:, :1], False).item() == 0
    assert entropy(torch.full((4, 1), 0.25), False).item() == pytest.approx(2)
    assert entropy(torch.tensor([[0.5], [1.0]]), True).item() == pytest.approx(1)
    assert disagreement(torch.tensor([1.0]), torch.tensor([1.0 + 1e-7])).item() == 0


def uncertainty_of(*networks: nn.Module) -> tuple[float, float]:
    """Entropy and disagreement in the middle of an image."""
    model = Model(ModelPlan(plan()), {str(index): network.eval() for index, network in enumerate(networks)})
    predictor = Predictor(model, "cpu", PredictionOptions(mirror=False, scales=(1.0,)))
    values = np.ones((1, 10, 12, 9), np.float32)
    values[:, 0] = 0
    found = predictor.segment(values, Geometry.from_spacing(values.shape[1:], (1, 1, 1)), Wanted(uncertainty=True))
    assert found.entropy is not None and found.disagreement is not None
    assert found.entropy.shape == found.disagreement.shape == values.shape[1:] and found.entropy.dtype == np.float32
    assert not found.entropy[0].any() and not found.disagreement[0].any()  # outside the crop
    return float(found.entropy[5, 6, 4]), float(found.disagreement[5, 6, 4])


def test_members_that_contradict_each_other_disagree() -> None:
    first, second = Constant(0.0, 50.0, 0.0), Constant(0.0, 0.0, 50.0)
    assert uncertainty_of(first, second) == pytest.approx((1, 1), abs=1e-5)
    assert uncertainty_of(first, first) == pytest.approx((0, 0), abs=1e-5)


def test_members_that_are_unsure_alike_do_not_disagree() -> None:
    unsure = Constant(0.0, 0.0, -50.0)
    assert uncertainty_of(unsure, unsure) == pytest.approx((1, 0), abs=1e-5)
