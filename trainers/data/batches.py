"""Make the training and validation batches. A batch depends only on the seed and its key, so it is the same whichever process
makes it, and a resumed training continues with the batches that an uninterrupted one would have seen."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from inference.cascade import one_hot
from trainers.augmentation.on_device import Pending, finish
from trainers.augmentation.planned import Augmentation
from trainers.augmentation.spatial import SpatialDraw, Triple, mirror, source_box, transform, transform_labels
from trainers.data.device_draws import draw_for_device, gather_draws
from trainers.data.disturbance import disturb
from trainers.data.patches import PatchSampler, Place, read_image_box, read_labels_box, read_previous_box

Purpose = Literal["training", "validation"]
Patch = tuple[NDArray[np.float32], NDArray[np.int16]]  # an image (C, Z, Y, X) and its labels (Z, Y, X)
_STREAMS: dict[Purpose, int] = {"training": 0, "validation": 1}


@dataclass(frozen=True)
class BatchKey:
    """Key of a batch."""

    purpose: Purpose  # set that the batch is drawn from; `training` batches are augmented
    epoch: int  # counted from 0
    index: int  # position within the epoch, counted from 0

    def __str__(self) -> str:
        return f"{self.purpose} batch {self.index + 1} of epoch {self.epoch + 1}"


@dataclass(frozen=True)
class Batch:
    """Patches that are trained on or validated together."""

    images: NDArray[np.float32]  # (B, C, Z, Y, X) float32
    labels: NDArray[np.int16]  # class indices (B, Z, Y, X) int16
    cases: tuple[str, ...]  # case identifier of each patch
    pending: Pending | None = None  # augmentation left to the device, with boxes around the patches as images and labels; or None

    def to(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return images (B, C, Z, Y, X) and class indices (B, Z, Y, X) on a device, augmented."""
        images, labels = (torch.from_numpy(array).to(device, non_blocking=True) for array in (self.images, self.labels))
        return (images, labels) if self.pending is None else finish(images, labels, self.pending)


@dataclass(frozen=True)
class BatchSchedule:
    """Order of the batches: the training batches of each epoch, followed in some epochs by the validation batches."""

    epochs: int  # number of epochs
    iterations: int  # training batches per epoch
    validate_every: int  # epochs between validations; the last epoch is always validated
    validation_iterations: int  # batches per validation

    def validates(self, epoch: int) -> bool:
        """Return whether validation follows this epoch, counted from 0."""
        return (epoch + 1) % self.validate_every == 0 or epoch + 1 == self.epochs

    def keys(self, epoch: int = 0, iteration: int = 0) -> Iterator[BatchKey]:
        """Yield the keys of all batches from this iteration of this epoch on."""
        for current in range(epoch, self.epochs):
            first = iteration if current == epoch else 0
            yield from (BatchKey("training", current, index) for index in range(first, self.iterations))
            if self.validates(current):
                yield from (BatchKey("validation", current, index) for index in range(self.validation_iterations))


class LoadingError(RuntimeError):
    """A batch cannot be made; the message names its cases."""


class BatchMaker:
    """Draws, reads and augments the patches of a batch.

    Each position of a batch has its own random numbers, so the processes of a distributed training draw the same patches as one.

    Args:
        training, validation: patch samplers of the two sets.
        augmentation: augmentation of training batches.
        seed: seed of all random draws.
        positions: positions of the batch that this process makes; None makes all.
        cascade_channels: number of channels that encode the first network's segmentation; 0 without a cascade.
        on_device: leave the augmentation of training batches to `on_device.finish`.
    """

    def __init__(
        self,
        training: PatchSampler,
        validation: PatchSampler,
        augmentation: Augmentation,
        seed: int,
        positions: range | None = None,
        cascade_channels: int = 0,
        on_device: bool = False,
    ):
        self._samplers: dict[Purpose, PatchSampler] = {"training": training, "validation": validation}
        self._augmentation = augmentation
        self._seed = seed
        self._cascade_channels = cascade_channels
        self._on_device = on_device
        self._positions = range(training.batch_size) if positions is None else positions

    def __getitem__(self, key: BatchKey) -> Batch:
        """Make the batch of a key.

        Raises:
            LoadingError: a patch cannot be made for any reason.
        """
        cases = self.cases_of(key)
        boxes, pending = self._draw_boxes(key, cases) if self._on_device and key.purpose == "training" else ({}, None)
        patches = []
        for position, case in zip(self._positions, cases, strict=True):
            try:
                sampler = self._samplers[key.purpose]
                patches.append(self._read_box(sampler, boxes[position]) if boxes else self._patch(key, case, position))
            except Exception as error:  # the main process would not learn which case it was
                raise LoadingError(f"case `{case}` in {key}: {type(error).__name__}: {error}") from error
        images = np.stack([image for image, _ in patches])
        labels = np.stack([labels for _, labels in patches])
        return Batch(images, labels, tuple(cases), pending)

    def cases_of(self, key: BatchKey) -> Sequence[str]:
        """Return the cases of a batch at this process's positions, without making the batch."""
        cases = self._samplers[key.purpose].draw_cases(self._random(key))
        return [cases[position] for position in self._positions]

    def pair(self, key: BatchKey, position: int) -> tuple[Patch, Patch]:
        """Return the patch at a position of a training batch, before and after augmentation."""
        case = self._samplers[key.purpose].draw_cases(self._random(key))[position]
        place = self._samplers[key.purpose].draw_place(self._random(key, position), case, position)
        return read_patch(self._samplers[key.purpose], place, SpatialDraw(None, ())), self._patch(key, case, position)

    def _draw_boxes(self, key: BatchKey, cases: Sequence[str]) -> tuple[dict[int, tuple[Place, Triple]], Pending]:
        """Return equally sized boxes around the patches by position, and the augmentation left to the device."""
        sampler = self._samplers[key.purpose]
        draws = [
            draw_for_device(sampler, self._augmentation, self._random(key, position), case, position)
            for position, case in zip(self._positions, cases, strict=True)
        ]
        pending, places, extent = gather_draws(draws, sampler.patch_size, self._augmentation)
        return dict(zip(self._positions, ((place, extent) for place in places), strict=True)), pending

    def _read_box(self, sampler: PatchSampler, box: tuple[Place, Triple]) -> Patch:
        place, extent = box
        case = sampler.cases[place.case]
        return read_image_box(case, place.start, extent), read_labels_box(case, place.start, extent)

    def _random(self, key: BatchKey, position: int | None = None) -> Generator:
        stream = (self._seed, _STREAMS[key.purpose], key.epoch, key.index)
        return np.random.default_rng(stream if position is None else (*stream, position))

    def _patch(self, key: BatchKey, case: str, position: int) -> Patch:
        sampler, random = self._samplers[key.purpose], self._random(key, position)
        place = sampler.draw_place(random, case, position)
        is_training = key.purpose == "training"
        draw = self._augmentation.draw_spatial(random) if is_training else SpatialDraw(None, ())
        image, labels = read_patch(sampler, place, draw)
        if is_training:
            # The patch is copied, because it may be a view of the volume held in memory.
            image = self._augmentation.change_intensity(image[None].copy(), random)[0]
        if self._cascade_channels:
            before = one_hot(read_previous_patch(sampler, place, draw), self._cascade_channels)
            image = np.concatenate([image, disturb(before, random) if is_training else before])
        return image, labels


def read_patch(sampler: PatchSampler, place: Place, draw: SpatialDraw) -> Patch:
    """Read a patch together with the surroundings that its spatial transform needs, and apply the transform.

    Returns:
        The image (C, Z, Y, X) and labels (Z, Y, X) of the sampler's patch size.
    """
    case, size = sampler.cases[place.case], sampler.patch_size
    if draw.matrix is None:
        image, labels = read_image_box(case, place.start, size), read_labels_box(case, place.start, size)
    else:
        box, extent = source_box(place.start, size, draw.matrix)
        image, labels = transform(
            read_image_box(case, box, extent), read_labels_box(case, box, extent), box, place.start, size, draw.matrix
        )
    return mirror(image, draw.mirrored), mirror(labels, draw.mirrored)


def read_previous_patch(sampler: PatchSampler, place: Place, draw: SpatialDraw) -> NDArray[np.int16]:
    """Return the first network's class indices (Z, Y, X) for a patch, transformed like the patch."""
    case, size = sampler.cases[place.case], sampler.patch_size
    if draw.matrix is None:
        return mirror(read_previous_box(case, place.start, size), draw.mirrored)
    box, extent = source_box(place.start, size, draw.matrix)
    return mirror(transform_labels(read_previous_box(case, box, extent), box, place.start, size, draw.matrix), draw.mirrored)
