"""Class scores of a whole volume from a network that sees patches: overlapping tiles, averaged with Gaussian weights."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from configs.progress import Progress, Silent
from inference.tiles import Start, axis_coverage, axis_weights, tile_starts

logger = logging.getLogger(__name__)
TILE_BATCH = {"cuda": 4}  # tiles per forward pass; elsewhere one, which keeps memory low and CPUs busy all the same


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
    """Class scores of a volume of any size.

    Score at a voxel: sum over its tiles of `weight * score`, divided by the sum of weights. An image smaller than a patch is
    padded with zeros on both sides, as in training, and its scores are cropped back.

    Args:
        network: takes (B, C, *patch_size), gives class scores (B, K, *patch_size).
        image: (C, Z, Y, X), on any device.
        patch_size: voxels (Z, Y, X) of a tile.
        step: largest distance of neighbouring tiles, as a share of the patch, in (0, 1].
        tile_batch: tiles per forward pass; None chooses by device. Halved when a GPU runs out of memory.
        device: of the computation and the result; None takes the network's.
        progress: shows the tiles done, under this `title`.

    Returns:
        (K, Z, Y, X) float32 scores (logits, if the network gives logits) on `device`.

    Raises:
        ValueError: `image` or `step` is out of range.
    """
    if image.ndim != 4:
        raise ValueError(f"the image must be (C, Z, Y, X), not of shape {tuple(image.shape)}")
    device = device_of(network) if device is None else torch.device(device)
    patch = (patch_size[0], patch_size[1], patch_size[2])
    before, padded = _pad(image, patch)
    starts = tile_starts(padded.shape[1:], patch, step)
    batch = tile_batch or TILE_BATCH.get(device.type, 1)
    weights = _outer([axis_weights(size) for size in patch]).to(device)
    total: Tensor | None = None
    with torch.no_grad(), evaluating(network), torch.autocast(device.type, enabled=device.type == "cuda"):
        tiles = _tile_scores(network, padded, patch, starts, batch, device)
        for start, scores in (progress or Silent()).track(tiles, title, len(starts)):
            if total is None:
                total = torch.zeros(len(scores), *padded.shape[1:], device=device)
            _window(total, start, patch).addcmul_(scores.float(), weights)
    if total is None:
        raise ValueError("there is no tile to predict")
    for axis, size in enumerate(patch, start=1):
        coverage = axis_coverage(padded.shape[axis], size, step).to(device)
        total /= coverage.reshape([-1 if axis == position else 1 for position in range(4)])
    return _window(total, before, (image.shape[1], image.shape[2], image.shape[3]))


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


def _tile_scores(
    network: nn.Module, image: Tensor, patch: tuple[int, int, int], starts: list[Start], batch: int, device: torch.device
) -> Iterator[tuple[Start, Tensor]]:
    """Scores (K, *patch) of one tile after the other, computed `batch` at a time, or fewer when memory runs out."""
    done = 0
    while done < len(starts):
        group = starts[done : done + batch]
        tiles = torch.stack([_window(image, start, patch) for start in group]).to(device)
        try:
            scores = network(tiles)
        except torch.cuda.OutOfMemoryError:
            if batch == 1:
                raise
            batch //= 2
            logger.warning("the GPU ran out of memory; going on with %d tiles at a time", batch)
            continue
        yield from zip(group, scores, strict=True)
        done += len(group)


def _pad(image: Tensor, patch: tuple[int, int, int]) -> tuple[Start, Tensor]:
    """The image (C, Z, Y, X) padded with zeros to at least a patch, and its first voxel in there."""
    missing = [max(0, size - present) for size, present in zip(patch, image.shape[1:], strict=True)]
    before = (missing[0] // 2, missing[1] // 2, missing[2] // 2)
    if not any(missing):
        return before, image
    ends = [(first, lacking - first) for first, lacking in zip(before, missing, strict=True)]
    return before, functional.pad(image, [border for pair in reversed(ends) for border in pair])


def _window(volume: Tensor, start: Start, size: tuple[int, int, int]) -> Tensor:
    """A view of `size` voxels of (C, Z, Y, X), from `start`."""
    z, y, x = (slice(first, first + length) for first, length in zip(start, size, strict=True))
    return volume[:, z, y, x]


def _outer(axes: Sequence[Tensor]) -> Tensor:
    z, y, x = axes
    return z[:, None, None] * y[None, :, None] * x[None, None, :]
