"""Whether a fused kernel or PyTorch's own operators do a piece of work on a GPU: at first use, whichever is right and faster.

Nobody could measure these kernels when they were written. So each process compares a kernel with PyTorch's operators once for each device,
kind and size of map, and keeps to PyTorch where the results differ, where the kernel fails, or where it is slower. The environment variable
`SE_UNET_KERNELS` set to `plain` or `fused` takes the one or the other unseen; `auto` is the default.
"""

import logging
import os
from collections.abc import Callable, Hashable
from functools import lru_cache

import torch
from torch import Tensor

from configs.errors import Fault, InputError

logger = logging.getLogger(__name__)
Function = Callable[[Tensor], Tensor]
VARIABLE, CHOICES = "SE_UNET_KERNELS", ("auto", "plain", "fused")
RUNS = 5  # runs whose time is taken
# Number types that the kernels know -> difference that is admitted, as a share of the largest value of the result.
TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
_known: dict[Hashable, bool] = {}


def asked_kernels() -> str:
    """Return what the environment variable asks for; unset or empty, `auto`.

    Raises:
        InputError: it asks for something else than `CHOICES`. Commands call this before they begin.
    """
    found = os.environ.get(VARIABLE) or "auto"
    if found not in CHOICES:
        raise InputError(
            Fault(f"environment variable {VARIABLE}", f"unknown choice `{found}`", f"Choose from {', '.join(CHOICES)}")
        )
    return found


def are_allowed() -> bool:
    """Return whether fused kernels may be used at all."""
    return asked_kernels() != "plain"


def prefers_fused(key: Hashable, fused: Function, plain: Function, like: Tensor) -> bool:
    """Return whether `fused` is to be used instead of `plain`.

    Args:
        key: everything on which the answer depends; it is found once for each key.
        fused, plain: functions that should give the same result.
        like: argument as in use (B, ...); the trial takes random values for one sample in the same layout.
    """
    computes_nothing = type(like) is not Tensor  # fake tensors, which count what would happen
    if computes_nothing or asked_kernels() == "fused":
        return True
    if key not in _known:
        if torch.cuda.is_current_stream_capturing():  # where nothing may wait for the device
            return False
        with torch.inference_mode(False):  # a trial may need gradients
            # Which is faster may differ from run to run, and the two round differently.
            _known[key] = not torch.are_deterministic_algorithms_enabled() and _is_better(key, fused, plain, like)
    return _known[key]


def _is_better(key: Hashable, fused: Function, plain: Function, like: Tensor) -> bool:
    """Return whether the results agree and the fused kernel is faster. A failure is no error but a warning."""
    try:
        example = _noise(like[:1])
        expected, found = plain(example).float(), fused(example).float()
        error, largest = (found - expected).abs().max(), expected.abs().max()
        if not error <= TOLERANCE[like.dtype] * largest:
            _warn_once("its results differ")
            logger.debug("%s: a difference of %.2g, where the largest value is %.2g", key, error.item(), largest.item())
            return False
        return _milliseconds(fused, example) < _milliseconds(plain, example)
    except torch.OutOfMemoryError:
        logger.debug("there is no memory to try a fused kernel")
    except Exception as error:
        _warn_once(next(iter(str(error).splitlines()), "") or type(error).__name__)
        logger.debug("traceback for %s", key, exc_info=True)
    return False


def _noise(like: Tensor) -> Tensor:
    """Return random values in the layout of a map. The random numbers of a training go on as if there had been no trial."""
    values = torch.randn(like.shape, generator=torch.Generator().manual_seed(0))
    return torch.empty_like(like).copy_(values)


@lru_cache
def _warn_once(reason: str) -> None:
    logger.warning("PyTorch's own kernels take the place of a fused one, which may be slower and nothing else: %s", reason)


def _milliseconds(function: Function, example: Tensor) -> float:
    """Return the time of some runs on the device."""
    function(example)
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(RUNS):
        function(example)
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)
