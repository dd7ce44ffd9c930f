"""Sliding-window prediction plane by plane along Z: tiles are computed when their planes are needed and dropped afterwards.

Only the planes from the first that is still needed to the last that a tile has touched are in memory, whatever the volume's length
and however many volumes are swept together.
"""

from collections.abc import Callable, Sequence
from itertools import product
from math import ceil, prod
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from configs.fingerprint import Shape
from inference.device import in_precision, is_out_of_memory
from inference.engine.capacity import Capacity, release_cached_memory

Start = tuple[int, int, int]


def count_along(size: int, patch: int, step: float) -> int:
    """Return the number of tiles along one axis; arguments and errors are those of `axis_starts`."""
    if not 0 < step <= 1:
        raise ValueError(f"the step must be above 0 and at most 1, not {step}")
    if size < patch:
        raise ValueError(f"an axis of {size} voxels is shorter than a tile of {patch}; pad it first")
    return min(ceil((size - patch) / (patch * step)), size - patch) + 1  # no two tiles at the same position


def axis_starts(size: int, patch: int, step: float) -> list[int]:
    """Return the first voxels of the tiles along one axis: as few tiles as the step allows, evenly spread.

    Args:
        size: length of the axis in voxels, at least `patch`.
        patch: length of a tile in voxels.
        step: largest distance between neighbouring tiles, as a share of `patch`, in (0, 1].

    Raises:
        ValueError: the step is out of range, or the axis is shorter than a tile.
    """
    count = count_along(size, patch, step)
    if count == 1:
        return [0]
    return [round(index * (size - patch) / (count - 1)) for index in range(count)]


def axis_weights(patch: int) -> Tensor:
    """Return Gaussian weights (patch,) float32 with sigma = patch / 8 about the voxel patch // 2.

    The peak is 1; the border of an even patch has exp(-8).
    """
    distance = torch.arange(patch, dtype=torch.float64) - patch // 2
    return torch.exp(-0.5 * (distance * (8 / patch)) ** 2).float()


def axis_coverage(size: int, patch: int, step: float) -> Tensor:
    """Return the sum (size,) float32 of the tiles' weights at each voxel of one axis, which is positive everywhere.

    Tiles form a grid and their weights are products over axes, so the sum over all tiles of a volume is the outer product of these.
    """
    weights = axis_weights(patch)
    total = torch.zeros(size)
    for start in axis_starts(size, patch, step):
        total[start : start + patch] += weights
    return total


def axis_shares(size: int, patch: int, step: float) -> dict[int, Tensor]:
    """Return the weights (patch,) of each tile by its first voxel, divided by the sum of all tiles' weights at each voxel."""
    weights, coverage = axis_weights(patch), axis_coverage(size, patch, step)
    return {start: weights / coverage[start : start + patch] for start in axis_starts(size, patch, step)}


HALF_ABOVE = 2**30  # bytes; sums that would take more in float32 are kept in half precision


class Planes(Protocol):
    """An image that is read a few planes at a time."""

    @property
    def shape(self) -> Shape:
        """Shape (Z, Y, X) in voxels."""
        ...

    def planes(self, first: int, last: int) -> Tensor:
        """Return planes (C, last - first, Y, X)."""
        ...


class Sweep:
    """Scores of a volume: at each voxel the mean over its tiles, weighted by a Gaussian about each tile's centre.

    An image smaller than a patch is padded with zeros on both sides, as in training, and its scores are cropped. Weights are
    normalised in advance, so that the sums are weighted means throughout and keep their precision in half floats.
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
        """Prepare a sweep without computing anything yet.

        Args:
            network: function (B, C, *patch_size) -> (B, F, *patch_size).
            image: image to predict.
            patch_size: tile size (Z, Y, X) in voxels.
            step: largest distance between neighbouring tiles, as a share of the patch, in (0, 1].
            capacity: capacity of the device, reduced when memory runs out.
            reach: largest number of planes read at a time.
            half_above: bytes of the sums above which they are kept in half precision.
            tick: function called after each tile.

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
        self._first = 0  # first plane of the sums
        self._needed_from = 0
        self._sums: Tensor | None = None

    def planes(self, first: int, last: int) -> Tensor:
        """Return the scores (F, last - first, Y, X) of some planes as a view. Planes before `first` cannot be read afterwards.

        Raises:
            ValueError: planes were dropped already, or exceed the reach.
            torch.OutOfMemoryError: a single tile, or the sums, do not fit the device's memory.
        """
        first, last = first + self._before[0], last + self._before[0]
        self._needed_from = max(self._needed_from, first)
        while self._finished < last:
            self._add_row()
        if self._sums is None or not self._first <= first < last <= self._first + self._depth:
            raise ValueError(f"planes {first} to {last} are not in memory, which holds {self._depth} planes from {self._first}")
        (_, y, x), (_, height, width) = self._before, self.shape
        return self._sums[:, first - self._first : last - self._first, y : y + height, x : x + width]

    @property
    def _finished(self) -> int:
        """Number of final planes of the padded volume."""
        rows = self._starts[0]
        if self._rows_done == len(rows):
            return self._padded[0]
        return rows[self._rows_done] if self._rows_done else 0

    def _add_row(self) -> None:
        """Add the next row of tiles, which all begin at the same plane."""
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
            except RuntimeError as error:  # other errors do not concern memory
                if not is_out_of_memory(error) or not self._capacity.halve_tiles():
                    raise
                needs_room = True
            else:
                needs_room = False
            if needs_room:  # only here the error, whose traceback holds tensors, is gone
                release_cached_memory(self._capacity.device)
        self._rows_done += 1

    def _score(self, block: Tensor, places: Sequence[tuple[int, int]]) -> Tensor:
        """Return the scores (B, F, *patch) of the tiles at (Y, X)."""
        _, height, width = self._patch
        tiles = torch.stack([block[:, :, y : y + height, x : x + width] for y, x in places]).to(self._capacity.device)
        with in_precision(tiles.device, self._capacity.half):
            return self._network(tiles)

    def _add(self, start: Start, scores: Tensor) -> None:
        if self._sums is None:
            sums = self._allocate(len(scores))
            self._shares = [_on_device(shares, sums.device) for shares in self._shares]
            self._sums = sums  # last, so that this is done again if memory runs out on the way
        z, y, x = (share[first] for share, first in zip(self._shares, start, strict=True))
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
        return torch.zeros(shape, dtype=dtype, device=self._capacity.volumes_device)

    def _make_room(self, z: int) -> None:
        """Drop planes that are no longer needed, to make room for tiles at plane `z`."""
        if self._sums is None or z + self._patch[0] <= self._first + self._depth:
            return
        keep_from = min(self._needed_from, z)
        drop = keep_from - self._first
        kept = max(0, self._depth - drop)
        for channel in self._sums:  # one at a time, to keep the copy small
            channel[:kept] = channel[drop:].clone()
            channel[kept:] = 0
        self._first = keep_from

    def _padded_planes(self, z: int) -> Tensor:
        """Return as many planes (C, Z, Y, X) as a patch has, from plane `z` of the padded volume."""
        first, last = z - self._before[0], z - self._before[0] + self._patch[0]
        inside = self._image.planes(max(0, first), min(self.shape[0], last))
        (_, y, x), (_, height, width) = self._before, self.shape
        borders = [x, self._padded[2] - width - x, y, self._padded[1] - height - y, max(0, -first), max(0, last - self.shape[0])]
        return functional.pad(inside, borders) if any(borders) else inside


def _on_device(shares: dict[int, Tensor], device: torch.device) -> dict[int, Tensor]:
    """Return the shares of an axis on a device, copied all at once."""
    return dict(zip(shares, torch.stack(list(shares.values())).to(device), strict=True))


def padding(shape: Shape, patch: Shape) -> tuple[Shape, Shape]:
    """Return the first voxel (Z, Y, X) of an image in the grid padded to at least a patch, and that grid's shape."""
    missing = [max(0, size - present) for size, present in zip(patch, shape, strict=True)]
    before = (missing[0] // 2, missing[1] // 2, missing[2] // 2)
    return before, (shape[0] + missing[0], shape[1] + missing[1], shape[2] + missing[2])
