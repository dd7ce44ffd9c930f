"""Try networks of a user's own class on one patch before anything long begins."""

import linecache
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from configs.errors import Fault, InputError
from configs.plan import ModelPlan

_REMEDY = "Fix the class; docs/how_to/extend.md says what it is given and returns"


@contextmanager
def explained(where: str, what: str) -> Iterator[None]:
    """Turn an error of a user's own code in the block into an `InputError` that names the class, its line and what it was given."""
    try:
        yield
    except (InputError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        line = linecache.getline(last.filename, last.lineno or 0).strip()
        problem = f"it fails {what} ({type(error).__name__}: {error}; {Path(last.filename).name}, line {last.lineno}: `{line}`)"
        raise InputError(Fault(where, problem, _REMEDY)) from error


def try_network(network: nn.Module, plan: ModelPlan, where: str) -> None:
    """Give a network of a user's own class one patch of random numbers in evaluation mode, as prediction does.

    Raises:
        InputError: the network fails, or its scores are not finite numbers of the shape (1, classes, Z, Y, X).
    """
    image = random_images(plan, 1, next((one.device for one in network.parameters()), torch.device("cpu")))
    was_training = network.training
    network.eval()
    with torch.no_grad(), explained(where, f"on an image {tuple(image.shape)}"):
        scores = network(image)
    network.train(was_training)
    check_scores(where, scores, plan, 1)


def random_images(plan: ModelPlan, batch: int, device: torch.device) -> Tensor:
    """Return normal random images (batch, C, Z, Y, X) of the planned patch size."""
    planned, random = plan.network, torch.Generator().manual_seed(0)
    return torch.randn((batch, planned.network.input_channels, *planned.patch_size), generator=random).to(device)


def check_scores(where: str, scores: Any, plan: ModelPlan, batch: int) -> None:
    """Raise `InputError` unless scores are finite numbers of the shape (batch, classes, Z, Y, X) of the planned patch."""
    expected = (batch, plan.dataset.output_channels, *plan.network.patch_size)
    if not isinstance(scores, Tensor):
        raise_wrong(where, f"it returns a {type(scores).__name__}", f"a tensor {expected} (batch, classes, Z, Y, X)")
    if tuple(scores.shape) != expected or not scores.is_floating_point():
        given = f"scores {tuple(scores.shape)} of {scores.dtype}"
        raise_wrong(where, f"it returns {given}", f"floating-point scores {expected} (batch, classes, Z, Y, X)")
    check_finite(where, "scores", [scores])


def check_finite(where: str, what: str, tensors: Sequence[Tensor]) -> None:
    """Raise `InputError` if a tensor has values that are not finite."""
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
        raise_wrong(where, f"its {what} are not finite for normal random images", "finite numbers")


def raise_wrong(where: str, found: str, expected: str) -> NoReturn:
    """Raise the `InputError` of a class that does not do what is expected of it."""
    raise InputError(Fault(where, f"{found}, expected {expected}", _REMEDY))
