"""A network's scores of a volume, plane by plane along Z: tiles are computed when their planes are needed and let go behind.

Only the planes between the first that is still needed and the last that a tile has touched are in memory, whatever the volume's
length and whatever else is swept beside it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import product
from math import ceil, prod
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.engine.capacity import Capacity, release_cached_memory

Start = tuple[int, int, int]


def axis_starts(size: int, patch: int, step: float) -> list[int]:
    """First voxels of the tiles along one axis.

    As few tiles as the step allows, spread evenly from the first to the last voxel.

    Args:
        size: voxels of the axis, at least `patch`.
        patch: voxels of a tile.
        step: largest distance of neighbouring tiles, as a share of `patch`, in (0, 1].

    Raises:
        ValueError: the step is out of range or the axis shorter than a tile.
    """
    if not 0 < step <= 1:
        raise ValueError(f"the step must be above 0 and at most 1, not {step}")
    if size < patch:
        raise ValueError(f"an axis of {size} voxels is shorter than a tile of {patch}: pad it first")
    count = min(ceil((size - patch) / (patch * step)), size - patch) + 1  # no two tiles at one place
    if count == 1:
        return [0]
    return [round(index * (size - patch) / (count - 1)) for index in range(count)]


def tile_starts(shape: Sequence[int], patch_size: Sequence[int], step: float) -> list[Start]:
    """First voxels (Z, Y, X) of all tiles, in order of Z, then Y, then X."""
    z, y, x = (axis_starts(size, patch, step) for size, patch in zip(shape, patch_size, strict=True))
    return list(product(z, y, x))


def axis_weights(patch: int) -> Tensor:
    """Gaussian of sigma = patch / 8 about the voxel patch // 2; 1 at its peak, exp(-8) at the border of an even patch.

    Returns:
        (patch,) float32.
    """
    distance = torch.arange(patch, dtype=torch.float64) - patch // 2
    return torch.exp(-0.5 * (distance * (8 / patch)) ** 2).float()


def axis_coverage(size: int, patch: int, step: float) -> Tensor:
    """Sum over the tiles of one axis of their weights at each voxel; positive everywhere.

    Tiles form a grid and their weights are products over axes, so the sum over all tiles of a volume is the outer product
    of these.

    Returns:
        (size,) float32.
    """
    weights = axis_weights(patch)
    total = torch.zeros(size)
    for start in axis_starts(size, patch, step):
        total[start : start + patch] += weights
    return total


def axis_shares(size: int, patch: int, step: float) -> dict[int, Tensor]:
    """First voxel of each tile of one axis -> its weights (patch,) as shares of all tiles' weights at these voxels: they add up to 1."""
    weights, coverage = axis_weights(patch), axis_coverage(size, patch, step)
    return {start: weights / coverage[start : start + patch] for start in axis_starts(size, patch, step)}


Shape = tuple[int, int, int]
HALF_ABOVE = 2**30  # bytes; sums that would take more in float32 are kept in half precision


class Planes(Protocol):
    """An image that is asked for some planes at a time."""

    @property
    def shape(self) -> Shape:
        """Voxels (Z, Y, X)."""
        ...

    def planes(self, first: int, last: int) -> Tensor:
        """(C, last - first, Y, X)."""
        ...


class Sweep:
    """Scores at a voxel: the mean over its tiles, weighted by a Gaussian about each tile's middle.

    An image smaller than a patch is padded with zeros on both sides, as in training, and its scores are cropped back. Weights are
    divided by their sum beforehand, so that sums are weighted means all along and keep their precision in half floats.
    """

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        image: Planes,
        patch_size: Sequence[int],
        step: float,
        capacity: Capacity,
        *,
        reach: int = 1,
        half_above: int = HALF_ABOVE,
        tick: Callable[[], object] = lambda: None,
    ):
        """Nothing is computed yet.

        Args:
            network: (B, C, *patch_size) -> (B, F, *patch_size).
            image: to be scored.
            patch_size: voxels (Z, Y, X) of a tile.
            step: largest distance of neighbouring tiles, as a share of the patch, in (0, 1].
            capacity: of the device; shrunk where memory runs out.
            reach: most planes that are asked for at a time.
            half_above: bytes of the sums above which they are half floats.
            tick: called for each tile.

        Raises:
            ValueError: the step is out of range.
        """
        self.shape = image.shape
        self._network, self._image, self._capacity, self._tick = network, image, capacity, tick
        self._patch: Shape = (patch_size[0], patch_size[1], patch_size[2])
        self._before, self._padded = padding(self.shape, self._patch)
        self._starts = [axis_starts(size, patch, step) for size, patch in zip(self._padded, self._patch, strict=True)]
        self._shares = [axis_shares(size, patch, step) for size, patch in zip(self._padded, self._patch, strict=True)]
        self._rows_done = 0
        self._depth = min(self._padded[0], self._patch[0] + reach)
        self._half_above = half_above
        self._first = 0  # plane at which the sums begin
        self._needed_from = 0
        self._sums: Tensor | None = None

    def planes(self, first: int, last: int) -> Tensor:
        """Scores (F, last - first, Y, X) of some planes, a view. Planes before `first` cannot be asked for any more.

        Raises:
            ValueError: they are not there any more, or are more than the reach.
            torch.OutOfMemoryError: the device's memory does not take one tile.
        """
        first, last = first + self._before[0], last + self._before[0]
        self._needed_from = max(self._needed_from, first)
        while self._finished < last:
            self._add_row()
        if self._sums is None or not self._first <= first < last <= self._first + self._depth:
            raise ValueError(f"planes {first} to {last} are not among the {self._depth} from {self._first} that are in memory")
        (_, y, x), (_, height, width) = self._before, self.shape
        return self._sums[:, first - self._first : last - self._first, y : y + height, x : x + width]

    @property
    def _finished(self) -> int:
        """Planes of the padded volume that are final."""
        rows = self._starts[0]
        if self._rows_done == len(rows):
            return self._padded[0]
        return rows[self._rows_done] if self._rows_done else 0

    def _add_row(self) -> None:
        """Add all tiles that begin at the next plane."""
        z = self._starts[0][self._rows_done]
        self._make_room(z)
        block = self._padded_planes(z)
        places = list(product(self._starts[1], self._starts[2]))
        done = 0
        while done < len(places):
            group = places[done : done + self._capacity.tile_batch]
            try:
                for (y, x), scores in zip(group, self._score(block, group), strict=True):
                    self._add((z, y, x), scores)
                    done += 1
                    self._tick()
            except torch.cuda.OutOfMemoryError:  # any other error is none of memory
                if not self._capacity.shrink():
                    raise
                self._move_sums()
        self._rows_done += 1

    def _score(self, block: Tensor, places: Sequence[tuple[int, int]]) -> Tensor:
        """Scores (B, F, *patch) of tiles at (Y, X)."""
        _, height, width = self._patch
        tiles = torch.stack([block[:, :, y : y + height, x : x + width] for y, x in places]).to(self._capacity.device)
        mixed = self._capacity.device.type == "cuda"
        with torch.autocast("cuda") if mixed else nullcontext():
            return self._network(tiles)

    def _add(self, start: Start, scores: Tensor) -> None:
        if self._sums is None:
            self._sums = self._allocate(len(scores))
        z, y, x = (share[first].to(self._sums.device) for share, first in zip(self._shares, start, strict=True))
        weights = z[:, None, None] * y[None, :, None] * x[None, None, :]
        scores = scores.to(self._sums.device, torch.float32)
        depth, height, width = self._patch
        top = start[0] - self._first
        part = self._sums[:, top : top + depth, start[1] : start[1] + height, start[2] : start[2] + width]
        if part.dtype == torch.float32:
            part.addcmul_(scores, weights)
        else:
            part += scores * weights

    def _allocate(self, channels: int) -> Tensor:
        shape = (channels, self._depth, *self._padded[1:])
        dtype = torch.float16 if 4 * prod(shape) > self._half_above else torch.float32
        return torch.zeros(shape, dtype=dtype, device=self._capacity.sums_device)

    def _make_room(self, z: int) -> None:
        """Drop planes that are not needed any more, so that a tile at plane `z` has room."""
        if self._sums is None or z + self._patch[0] <= self._first + self._depth:
            return
        keep_from = min(self._needed_from, z)
        drop = keep_from - self._first
        kept = max(0, self._depth - drop)
        for channel in self._sums:  # one at a time: the copy of a part that overlaps itself stays small
            channel[:kept] = channel[drop:].clone()
            channel[kept:] = 0
        self._first = keep_from

    def _move_sums(self) -> None:
        if self._sums is not None:
            self._sums = self._sums.to(self._capacity.sums_device)
        release_cached_memory(self._capacity.device)

    def _padded_planes(self, z: int) -> Tensor:
        """The patch's depth of planes (C, Z, Y, X) from plane `z` of the padded volume."""
        first, last = z - self._before[0], z - self._before[0] + self._patch[0]
        inside = self._image.planes(max(0, first), min(self.shape[0], last))
        (_, y, x), (_, height, width) = self._before, self.shape
        borders = [x, self._padded[2] - width - x, y, self._padded[1] - height - y, max(0, -first), max(0, last - self.shape[0])]
        return functional.pad(inside, borders) if any(borders) else inside


def padding(shape: Shape, patch: Shape) -> tuple[Shape, Shape]:
    """First voxel of an image (Z, Y, X) in its padded grid of at least a patch, and that grid's shape."""
    missing = [max(0, size - present) for size, present in zip(patch, shape, strict=True)]
    before = (missing[0] // 2, missing[1] // 2, missing[2] // 2)
    return before, (shape[0] + missing[0], shape[1] + missing[1], shape[2] + missing[2])


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
