"""Optimiser and learning rate. The rate depends only on the step, so a resumed training has the rate of an uninterrupted one."""

import math
from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from configs.errors import Fault, InputError
from configs.training import TrainingConfig

_PARTS = {"encoder": ("encoder.",), "decoder": ("decoder.", "ups."), "heads": ("heads.",)}  # prefixes of the names of parameters
_SHARE = "share"  # of the learning rate, in the groups of an optimiser


def trained_parameters(network: nn.Module, config: TrainingConfig) -> list[dict[str, Any]]:
    """Return the parameters that are trained, in groups with their share of the learning rate. Frozen ones get no gradients.

    Raises:
        InputError: nothing is left to train, or the network has no such part.
    """
    named = dict(network.named_parameters())
    for part in config.freeze:
        frozen = [name for name in named if name.startswith(_PARTS[part])]
        if not frozen or len(frozen) == len(named):
            problem = "nothing would be left to train" if frozen else f"the network has no {part}"
            raise InputError(Fault(f"freeze={part}", problem, f"Choose among {', '.join(_PARTS)}, or leave it out"))
        for name in frozen:
            named.pop(name).requires_grad_(False)
    slow = {name for name in named if name.startswith(_PARTS["encoder"]) and config.encoder_rate != 1}
    groups = [([one for name, one in named.items() if name not in slow], 1.0)]
    groups += [([named[name] for name in sorted(slow)], config.encoder_rate)] if slow else []
    return [{"params": parameters, _SHARE: share} for parameters, share in groups if parameters]


def make_optimiser(parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]], config: TrainingConfig) -> Optimizer:
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


def learning_rate(config: TrainingConfig, step: int, share_of_time: float = 0.0) -> float:
    """Return the learning rate of a step: a decay over all steps, times a linear rise over the first `warmup * steps` steps.

    `polynomial`: `learning_rate * (1 - step / steps) ** polynomial`; `cosine`: `learning_rate * (1 + cos(pi step / steps)) / 2`. Where a
    larger share of the training's time has passed than of its steps, that share takes the place of `step / steps`.
    """
    rising = config.warmup * config.steps
    rise = min(1.0, (step + 1) / rising) if rising else 1.0
    done = min(1.0, max(step / config.steps, share_of_time))
    fall = (1 + math.cos(math.pi * done)) / 2 if config.schedule == "cosine" else (1 - done) ** config.polynomial
    return config.learning_rate * rise * fall


def set_learning_rate(optimiser: Optimizer, rate: float) -> None:
    """Set the learning rate of all parameters, of which groups may have a share."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get(_SHARE, 1.0)
