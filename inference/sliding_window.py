"""Class scores of a whole volume from a network that sees patches: overlapping tiles, averaged with Gaussian weights."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from configs.progress import Progress, Silent
from inference.capacity import Capacity
from inference.sweep import Sweep, padding
from inference.ticker import ticking
from inference.tiles import tile_starts


def predict_volume(
    network: nn.Module,
    image: Tensor,
    patch_size: Sequence[int],
    *,
    step: float = 0.5,
    tile_batch: int | None = None,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
    title: str = "Tiles",
) -> Tensor:
    """Class scores of a volume of any size, all of them in memory. `inference.ensemble` does without.

    Args:
        network: takes (B, C, *patch_size), gives class scores (B, K, *patch_size).
        image: (C, Z, Y, X), on any device.
        patch_size: voxels (Z, Y, X) of a tile.
        step: largest distance of neighbouring tiles, as a share of the patch, in (0, 1].
        tile_batch: tiles per forward pass; None chooses by device. Halved when a GPU runs out of memory.
        device: of the computation and the result; None takes the network's.
        progress: shows the tiles done, under this `title`.

    Returns:
        (K, Z, Y, X) float32 scores (logits, if the network gives logits).

    Raises:
        ValueError: `image` or `step` is out of range.
    """
    if image.ndim != 4:
        raise ValueError(f"the image must be (C, Z, Y, X), not of shape {tuple(image.shape)}")
    whole = WholeImage(image)
    patch = (patch_size[0], patch_size[1], patch_size[2])
    capacity = Capacity.of(device_of(network) if device is None else torch.device(device), tile_batch)
    count = len(tile_starts(padding(whole.shape, patch)[1], patch, step))
    with torch.no_grad(), evaluating(network), ticking(progress or Silent(), title, count) as tick:
        depth = whole.shape[0]
        sweep = Sweep(network, whole, patch, step, capacity, reach=depth, half_above=2**62, tick=tick)
        return sweep.planes(0, depth)


class WholeImage:
    """An image that lies in memory, in the form that a sweep asks for."""

    def __init__(self, image: Tensor):
        """Args: image: (C, Z, Y, X)."""
        self._image = image
        self.shape = (image.shape[1], image.shape[2], image.shape[3])

    def planes(self, first: int, last: int) -> Tensor:
        """(C, last - first, Y, X), a view."""
        return self._image[:, first:last]


def device_of(network: nn.Module) -> torch.device:
    """Where a network's weights are; the CPU for one without weights."""
    return next((parameter.device for parameter in network.parameters()), torch.device("cpu"))


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Switch a network to evaluation; switch it back to training afterwards if it was training."""
    was_training = network.training
    if was_training:
        network.eval()
    try:
        yield
    finally:
        if was_training:
            network.train()
