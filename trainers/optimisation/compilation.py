"""Compilation of the network, where it works."""

import logging
from typing import cast

import torch
from torch import Tensor, nn

from trainers.optimisation.precision import Precision

logger = logging.getLogger(__name__)


def compiled(network: nn.Module, example: Tensor, precision: Precision) -> nn.Module:
    """The network compiled by `torch.compile`, or as it is, with one warning, where a trial step fails.

    Args:
        network: on the example's device; its parameters are shared with the compiled one.
        example: a batch (B, C, Z, Y, X) as in training.
        precision: of the computation.
    """
    try:
        fast = cast(nn.Module, torch.compile(network, dynamic=False))
        with torch.random.fork_rng(devices=[example.device] if example.device.type == "cuda" else []):
            _try(fast.train(), example, precision)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        logger.warning("the network is not compiled, which is slower but computes the same (torch.compile: %s)", reason)
        logger.debug("traceback of torch.compile", exc_info=True)
        torch.compiler.reset()
        fast = network
    network.zero_grad(set_to_none=True)
    return fast


def _try(network: nn.Module, example: Tensor, precision: Precision) -> None:
    """Forward and backward, which is compiled by itself."""
    with precision.context():
        scores = network(example)
    stages = [scores] if isinstance(scores, Tensor) else scores
    torch.stack([stage.float().mean() for stage in stages]).sum().backward()
