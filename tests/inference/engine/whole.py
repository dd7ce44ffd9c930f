"""Predictions with everything in memory at once: what the engine's bricks are compared with."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import product

import torch
from torch import Tensor, nn

from configs.plan import NetworkPlan
from configs.progress import Progress, Silent, ticking
from inference.engine.capacity import Capacity
from inference.engine.ensemble import Blending, blend, make_members
from inference.engine.scaling import scaled_shape
from inference.engine.sliding_window import Start, Sweep, axis_starts, padding
from inference.options import Variants

CPU = torch.device("cpu")


class WholeImage:
    """An image (C, Z, Y, X) that lies in memory, in the form that a sweep asks for."""

    def __init__(self, image: Tensor):
        self._image = image
        self.shape = (image.shape[1], image.shape[2], image.shape[3])

    def planes(self, first: int, last: int) -> Tensor:
        return self._image[:, first:last]


def tile_starts(shape: Sequence[int], patch_size: Sequence[int], step: float) -> list[Start]:
    """First voxels (Z, Y, X) of all tiles, ordered by Z, then Y, then X."""
    z, y, x = (axis_starts(size, patch, step) for size, patch in zip(shape, patch_size, strict=True))
    return list(product(z, y, x))


def predict_volume(
    network: nn.Module,
    image: Tensor,
    patch_size: tuple[int, int, int],
    *,
    step: float = 0.5,
    tile_batch: int | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Class scores (K, Z, Y, X) of an image (C, Z, Y, X), by one sweep whose planes all stay in memory."""
    whole = WholeImage(image)
    capacity = Capacity.of(CPU, tile_batch)
    count = len(tile_starts(padding(whole.shape, patch_size)[1], patch_size, step))
    with torch.no_grad(), evaluating(network), ticking(progress or Silent(), "Tiles", count) as tick:
        depth = whole.shape[0]
        sweep = Sweep(network, whole, patch_size, step, capacity, reach=depth, half_above=2**62, tick=tick)
        return sweep.planes(0, depth)


def predict_ensemble(
    networks: Sequence[nn.Module],
    image: Tensor,
    network_plan: NetworkPlan,
    variants: Variants | None = None,
    *,
    how: Blending | None = None,
) -> Tensor:
    """Class probabilities (K, Z, Y, X) on the grid of an image (C, Z, Y, X): all bricks put together."""
    members = make_members(networks, image, network_plan, variants or Variants())
    shape, classes = scaled_shape(image.shape[1:], 1.0), network_plan.network.output_channels
    mean = torch.empty((classes, *shape))
    with ExitStack() as stack:
        for network in networks:
            stack.enter_context(evaluating(network))
        for brick in blend(members, shape, classes, how or Blending(), Capacity.of(CPU)):
            mean[(slice(None), *brick.place)] = brick.probabilities
    return mean


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, and back into training mode afterwards if it was training."""
    was_training = network.training
    if was_training:
        network.eval()
    try:
        yield
    finally:
        if was_training:
            network.train()
