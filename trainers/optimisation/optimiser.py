"""Optimiser and learning rate. The rate depends only on the step, so a resumed training has the rate of an uninterrupted one."""

import math
from collections.abc import Iterable

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from configs.training import TrainingConfig


def make_optimiser(parameters: Iterable[nn.Parameter], config: TrainingConfig) -> Optimizer:
    """Return SGD with Nesterov momentum, or AdamW."""
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
    """Return the learning rate of a step: a decay over all steps, times a linear rise over the first `warmup * steps` steps.

    `polynomial`: `learning_rate * (1 - step / steps) ** polynomial`; `cosine`: `learning_rate * (1 + cos(pi step / steps)) / 2`.
    """
    rising = config.warmup * config.steps
    rise = min(1.0, (step + 1) / rising) if rising else 1.0
    done = min(1.0, step / config.steps)
    fall = (1 + math.cos(math.pi * done)) / 2 if config.schedule == "cosine" else (1 - done) ** config.polynomial
    return config.learning_rate * rise * fall


def set_learning_rate(optimiser: Optimizer, rate: float) -> None:
    """Set the learning rate of all parameters."""
    for group in optimiser.param_groups:
        group["lr"] = rate
