"""Compile the network where `torch.compile` works."""

import logging
from typing import cast

import torch
from torch import Tensor, nn

from trainers.optimisation.precision import Precision

logger = logging.getLogger(__name__)


def compiled(network: nn.Module, example: Tensor, precision: Precision) -> nn.Module:
    """Return the compiled network, which shares the parameters, or the network itself with a warning if a trial step fails.

    The example is a batch (B, C, Z, Y, X) as in training, on the network's device.
    """
    try:
        fast = cast(nn.Module, torch.compile(network, dynamic=False))
        with torch.random.fork_rng(devices=[example.device] if example.device.type == "cuda" else []):
            _try(fast.train(), example, precision)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        logger.warning("training continues without torch.compile, slower but with the same results: %s", reason)
        logger.debug("traceback of torch.compile", exc_info=True)
        torch.compiler.reset()
        fast = network
    network.zero_grad(set_to_none=True)
    return fast


def _try(network: nn.Module, example: Tensor, precision: Precision) -> None:
    """Run a forward pass and a backward pass, which is compiled separately."""
    with precision.context():
        scores = network(example)
    stages = [scores] if isinstance(scores, Tensor) else scores
    torch.stack([stage.float().mean() for stage in stages]).sum().backward()
