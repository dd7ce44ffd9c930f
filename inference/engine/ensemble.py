"""Test-time ensembling: one weighted mean of class probabilities over networks, scales and models, brick by brick.

All members sweep their own grids in step. For each brick of the target grid, each member provides the few planes needed, which are
resampled by one matrix per axis and added up. No member's whole volume is ever in memory.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from configs.fingerprint import Shape
from configs.plan import Average, NetworkPlan
from configs.progress import Progress, Silent, ticking
from inference.engine.bricks import Extent, brick_shape, bricks, ranges
from inference.engine.capacity import Capacity, ScoresNotFiniteError
from inference.engine.heads import Scorer, identity, split_network
from inference.engine.mirroring import Mirrored
from inference.engine.scaling import Rows, ScaledImage, scaled_shape
from inference.engine.sliding_window import HALF_ABOVE, Planes, Sweep, count_along, padding
from inference.engine.uncertainty import entropy
from inference.options import Variants
from preprocessing.resample import Matrices
from se_unet.separable import apply_separable, spline_matrix


@dataclass(frozen=True)
class Member:
    """One network applied to one image at one scale."""

    network: nn.Module  # network (B, C, *patch_size) -> (B, K, *patch_size) logits
    image: Planes  # image on the member's own grid
    patch_size: Shape  # tile size (Z, Y, X) in voxels
    mirror_axes: tuple[int, ...]  # axes over whose reflections the logits of a tile are averaged, indices into (Z, Y, X)
    matrices: Matrices  # one matrix for each of (Z, Y, X), from the member's grid to the target grid; None keeps the axis
    weight: float = 1.0  # nonnegative weight in the mean


@dataclass(frozen=True)
class Brick:
    """One brick of the mean."""

    place: tuple[slice, slice, slice]  # slices (Z, Y, X) of the target grid
    probabilities: Tensor  # probabilities (K, z, y, x) float32
    member_entropy: Tensor | None  # weighted mean (z, y, x) of the members' entropies, if requested


@dataclass(frozen=True)
class Blending:
    """Averaging options of an ensemble."""

    regions: bool = False  # whether outputs are overlapping regions, with sigmoid instead of softmax
    average: Average = "probabilities"  # quantity that is resampled and averaged over members; logits as in nnU-Net
    step: float = 0.5  # step of the sliding window, as a share of the patch
    entropies: bool = False  # whether to also average the members' entropies
    half_above: int = HALF_ABOVE  # total bytes of the members' sums over tiles above which these are kept in half precision
    brick_values: int | None = None  # class scores in memory at a time; None chooses by device


def blend(
    members: Sequence[Member], shape: Shape, classes: int, how: Blending, capacity: Capacity, progress: Progress | None = None
) -> Iterator[Brick]:
    """Yield the weighted mean of the members on the target grid `shape` (Z, Y, X), brick by brick, ordered by Z.

    Images lie on the capacity's device of volumes.

    Raises:
        ValueError: a weight is negative, or none is positive.
        NotFiniteError: after the last brick, if a probability was not a finite number.
        torch.OutOfMemoryError: a single tile, or a volume, does not fit the device's memory.
    """
    total = sum(member.weight for member in members)
    if not total > 0 or any(member.weight < 0 for member in members):
        raise ValueError(f"members need nonnegative weights, at least one positive, not {[one.weight for one in members]}")
    members = [member for member in members if member.weight > 0]
    resampled = [any(member.matrices[axis] is not None for member in members) for axis in range(3)]
    size = brick_shape(shape, classes, resampled, capacity.volumes_device.type, how.brick_values)
    tiles = sum(count_tiles(member.image.shape, member.patch_size, how.step) for member in members)
    with ExitStack() as stack:
        tick = stack.enter_context(ticking(progress or Silent(), "Tiles", tiles))
        depths = ranges(shape[0], size[0])
        half_above = how.half_above // len(members)
        readers = [_Reader(member, depths, how, capacity, half_above, tick) for member in members]
        checked = torch.zeros((), device=capacity.volumes_device)
        for place in bricks(shape, size):
            with torch.no_grad():  # not around the loop, since a generator would leave it on for its caller
                brick = _mean(readers, place, total, how)
                checked += brick.probabilities.sum()
            yield brick
        if not checked.isfinite():  # once, since a GPU has to be waited for
            raise ScoresNotFiniteError


def count_tiles(shape: Shape, patch_size: Shape, step: float) -> int:
    """Return the number of tiles of a volume (Z, Y, X), computed without listing them."""
    return prod(count_along(size, patch, step) for size, patch in zip(padding(shape, patch_size)[1], patch_size, strict=True))


def probabilities_of(logits: Tensor, regions: bool) -> Tensor:
    """Convert logits (K, Z, Y, X) to probabilities by softmax over classes, or by a sigmoid for each region."""
    return torch.sigmoid(logits) if regions else torch.softmax(logits, 0)


class _Reader:
    """Reads one member's scores on bricks of the target grid."""

    def __init__(
        self,
        member: Member,
        depths: Sequence[Extent],
        how: Blending,
        capacity: Capacity,
        half_above: int,
        tick: Callable[[], object],
    ) -> None:
        self.weight = member.weight
        self._device = capacity.volumes_device
        self._rows = [None if matrix is None else Rows(matrix, self._device) for matrix in member.matrices]
        self._regions = how.regions if how.average == "probabilities" else None
        scorer: Scorer = split_network(member.network)
        self._head = scorer.head or identity
        axes = [axis for axis in member.mirror_axes if member.patch_size[axis] > 1]
        self._sweep = Sweep(
            Mirrored(scorer.body, axes) if axes else scorer.body,
            member.image,
            member.patch_size,
            how.step,
            capacity,
            reach=max(last - first for first, last in (self._needed(0, part)[1] for part in depths)),
            half_above=half_above,
            tick=tick,
        )

    def read(self, place: tuple[Extent, Extent, Extent]) -> Tensor:
        """Return (K, z, y, x) float32 probabilities or logits, whichever are averaged."""
        (along_z, z), (along_y, y), (along_x, x) = (self._needed(axis, part) for axis, part in enumerate(place))
        planes = self._sweep.planes(*z)
        scores = self._head(planes[:, :, y[0] : y[1], x[0] : x[1]].to(self._device, torch.float32))
        if self._regions is not None:
            scores = probabilities_of(scores, self._regions)
        return apply_separable(scores, [along_z, along_y, along_x])

    def _needed(self, axis: int, part: Extent) -> tuple[Tensor | None, Extent]:
        """Return the part of the axis's matrix for a range of the target grid, and the range of the member's grid it needs."""
        rows = self._rows[axis]
        if rows is None:
            return None, part
        some, columns = rows.of(*part)
        return some, (columns.start, columns.stop)


def _mean(readers: Sequence[_Reader], place: tuple[Extent, Extent, Extent], total: float, how: Blending) -> Brick:
    mean: Tensor | None = None
    spread: Tensor | None = None
    for reader in readers:
        share = reader.weight / total
        scores = reader.read(place)
        if how.entropies:
            alone = scores if how.average == "probabilities" else probabilities_of(scores, how.regions)
            part = entropy(alone, how.regions) * share
            spread = part if spread is None else spread.add_(part)
        mean = scores * share if mean is None else mean.add_(scores, alpha=share)
    if mean is None:
        raise ValueError("there must be at least one member")
    probabilities = mean if how.average == "probabilities" else probabilities_of(mean, how.regions)
    z, y, x = (slice(*part) for part in place)
    return Brick((z, y, x), probabilities, spread)


def make_members(
    networks: Sequence[nn.Module],
    image: Tensor,
    network_plan: NetworkPlan,
    variants: Variants,
    onwards: Matrices = (None, None, None),
) -> list[Member]:
    """Return one member for each network (all of one architecture, such as the folds) and scale factor.

    For each factor t the normalised image (C, Z, Y, X) float32 is resampled to t times its size, low-pass filtered if it shrinks, and the
    network's output is resampled back linearly, then by the matrices `onwards` for (Z, Y, X) to the target grid; None keeps an axis. An
    axis along which the patch is one voxel thick is neither scaled nor mirrored.

    Raises:
        ValueError: there is no network.
    """
    if not networks:
        raise ValueError("there must be at least one network")
    axes = [axis for axis, size in enumerate(network_plan.patch_size) if size > 1]
    mirrored = tuple(axis for axis in network_plan.mirror_axes if variants.mirror and axis in axes)
    shape = scaled_shape(image.shape[1:], 1.0)
    members = []
    for factor, share in zip(variants.scales, variants.shares, strict=True):
        if share == 0:
            continue
        resized = scaled_shape(shape, factor, axes)
        scaled = ScaledImage(image, resized)
        z, y, x = (_chain(before, after, on) for before, after, on in zip(resized, shape, onwards, strict=True))
        members += [
            Member(network, scaled, network_plan.patch_size, mirrored, (z, y, x), share / len(networks)) for network in networks
        ]
    return members


def _chain(before: int, after: int, onwards: Tensor | None) -> Tensor | None:
    """Return one matrix that interpolates linearly from `before` to `after` voxels and then applies `onwards`."""
    if before == after:
        return onwards
    back = spline_matrix(before, after, 1)
    return (back if onwards is None else onwards.to(back) @ back).float()
