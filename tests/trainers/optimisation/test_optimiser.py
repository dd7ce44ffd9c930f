"""Learning rate, optimiser, a step."""

import math

import pytest
import torch
from torch import nn

from configs.training import TrainingConfig, load_training_config
from trainers.optimisation.optimiser import learning_rate, make_optimiser, set_learning_rate
from trainers.optimisation.precision import Precision
from trainers.optimisation.step import TrainingStep


def test_polynomial_decay() -> None:
    config = TrainingConfig(epochs=4, iterations=25, learning_rate=0.5, polynomial=0.9)
    assert learning_rate(config, 0) == 0.5
    assert learning_rate(config, 50) == pytest.approx(0.5 * 0.5**0.9)
    assert learning_rate(config, 99) == pytest.approx(0.5 * 0.01**0.9)
    assert learning_rate(config, 100) == 0


def test_warm_up_rises_linearly_and_never_starts_at_zero() -> None:
    config = TrainingConfig(epochs=1, iterations=100, learning_rate=1.0, polynomial=0, warmup=0.1)
    assert [learning_rate(config, step) for step in (0, 4, 9, 10, 99)] == pytest.approx([0.1, 0.5, 1, 1, 1])


def test_optimisers_have_the_settings() -> None:
    parameters = [nn.Parameter(torch.ones(2))]
    sgd = make_optimiser(parameters, TrainingConfig()).param_groups[0]
    assert (sgd["momentum"], sgd["nesterov"], sgd["weight_decay"]) == (0.99, True, 3e-5)
    assert isinstance(make_optimiser(parameters, TrainingConfig(optimiser="adamw")), torch.optim.AdamW)
    assert not make_optimiser(parameters, TrainingConfig(momentum=0)).param_groups[0]["nesterov"]


class Sum(nn.Module):
    """A loss: `factor` times the sum of the scores."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        del labels
        return self.factor * scores.sum(-1).mean()


def step(factor: float, clip_norm: float) -> tuple[torch.Tensor, bool]:
    """One step of plain descent on `factor * sum(weights)` from ones. Returns the weights, and whether it was taken."""
    layer = nn.Linear(4, 1, bias=False)
    nn.init.ones_(layer.weight)
    optimiser = torch.optim.SGD(layer.parameters(), lr=1.0)
    set_learning_rate(optimiser, 0.5)
    take = TrainingStep(layer, Sum(factor), optimiser, Precision(torch.device("cpu")), clip_norm)
    return layer.weight.detach(), math.isfinite(take(torch.ones(2, 4), torch.zeros(2)))


def test_a_step_descends_at_the_set_rate() -> None:
    weights, finite = step(0.1, clip_norm=100)
    assert finite
    assert weights.tolist() == [pytest.approx([0.95] * 4)]


def test_long_gradients_are_clipped_to_the_norm() -> None:
    weights, _ = step(1000, clip_norm=2)
    assert weights.tolist() == [pytest.approx([0.5] * 4, abs=1e-5)]  # a gradient of norm 2 is 1 in each of four weights


def test_gradients_that_are_not_finite_leave_the_weights_alone() -> None:
    weights, finite = step(float("inf"), clip_norm=2)
    assert not finite
    assert weights.tolist() == [[1] * 4]


def test_cosine_falls_to_zero_after_the_warm_up() -> None:
    config = load_training_config("adamw", {"epochs": 1, "iterations": 100, "learning_rate": 1.0, "warmup": 0.1})
    assert (config.optimiser, config.schedule) == ("adamw", "cosine")
    assert [learning_rate(config, step) for step in (4, 50, 100)] == pytest.approx([0.5 * 0.99606, 0.5, 0], abs=1e-4)
