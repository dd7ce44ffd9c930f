"""Optimiser and learning rate. The rate is a function of the step alone, so a resumed training has the rate it would have had."""

from collections.abc import Iterable

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from configs.training import TrainingConfig


def make_optimiser(parameters: Iterable[nn.Parameter], config: TrainingConfig) -> Optimizer:
    """SGD with Nesterov momentum, or AdamW."""
    if config.optimiser == "adamw":
        return AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    return SGD(
        parameters,
        lr=config.learning_rate,
        momentum=config.momentum,
        nesterov=config.momentum > 0,
        weight_decay=config.weight_decay,
    )


def learning_rate(config: TrainingConfig, step: int) -> float:
    """`learning_rate * (1 - step / steps) ** polynomial`, over the first `warmup * steps` steps times a linear rise from 0."""
    rising = config.warmup * config.steps
    rise = min(1.0, (step + 1) / rising) if rising else 1.0
    return config.learning_rate * rise * max(0.0, 1 - step / config.steps) ** config.polynomial


def set_learning_rate(optimiser: Optimizer, rate: float) -> None:
    """Set the rate of all parameters."""
    for group in optimiser.param_groups:
        group["lr"] = rate
