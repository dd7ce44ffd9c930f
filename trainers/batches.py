"""From a batch's number to its arrays. A batch depends on the seed and its number alone, so it is the same whichever process
makes it, and a resumed training goes on with the batches that it would have had."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from trainers.augmentation import Augmentation
from trainers.patches import PatchSampler, Place, read_image, read_labels
from trainers.spatial import SpatialDraw, mirror, source_box, transform

Purpose = Literal["training", "validation"]
_STREAMS: dict[Purpose, int] = {"training": 0, "validation": 1}


@dataclass(frozen=True)
class BatchKey:
    """Number of a batch.

    Attributes:
        purpose: `training` batches are augmented.
        epoch, index: from 0.
    """

    purpose: Purpose
    epoch: int
    index: int

    def __str__(self) -> str:
        return f"{self.purpose} batch {self.index + 1} of epoch {self.epoch + 1}"


@dataclass(frozen=True)
class Batch:
    """Patches.

    Attributes:
        images: (B, C, Z, Y, X) float32.
        labels: (B, Z, Y, X) int16 class indices.
        cases: identifier of each patch.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int16]
    cases: tuple[str, ...]

    def pin_memory(self) -> "Batch":
        """The same in page-locked memory, from which a GPU copies while it computes."""
        pinned = [torch.from_numpy(array).pin_memory().numpy() for array in (self.images, self.labels)]
        return Batch(pinned[0], pinned[1], self.cases)


@dataclass(frozen=True)
class Schedule:
    """The order of batches: in each epoch those of training, then, every so many epochs and at the end, those of validation.

    Attributes:
        epochs, iterations: training batches.
        validate_every: epochs.
        validation_iterations: batches of one validation.
    """

    epochs: int
    iterations: int
    validate_every: int
    validation_iterations: int

    def validates(self, epoch: int) -> bool:
        """Whether validation follows this epoch (from 0)."""
        return (epoch + 1) % self.validate_every == 0 or epoch + 1 == self.epochs

    def keys(self, epoch: int = 0, iteration: int = 0) -> Iterator[BatchKey]:
        """Batches from this iteration of this epoch on."""
        for current in range(epoch, self.epochs):
            first = iteration if current == epoch else 0
            yield from (BatchKey("training", current, index) for index in range(first, self.iterations))
            if self.validates(current):
                yield from (BatchKey("validation", current, index) for index in range(self.validation_iterations))


class LoadingError(RuntimeError):
    """A batch could not be made; the message names its cases."""


class BatchMaker:
    """Draws, reads and augments.

    Args:
        training, validation: samplers of the two sets.
        augmentation: of training batches.
        seed: of everything drawn.
    """

    def __init__(self, training: PatchSampler, validation: PatchSampler, augmentation: Augmentation, seed: int):
        self._samplers: dict[Purpose, PatchSampler] = {"training": training, "validation": validation}
        self._augmentation = augmentation
        self._seed = seed

    def __getitem__(self, key: BatchKey) -> Batch:
        """Make a batch.

        Raises:
            LoadingError: whatever goes wrong, with the cases.
        """
        sampler = self._samplers[key.purpose]
        random = self._random(key)
        cases = sampler.draw_cases(random)
        patches = []
        for position, case in enumerate(cases):
            try:
                patches.append(self._patch(sampler, random, case, position, key.purpose))
            except Exception as error:  # a worker has no other way to tell which case it was
                raise LoadingError(f"case `{case}` in {key}: {type(error).__name__}: {error}") from error
        images = np.stack([image for image, _ in patches])
        labels = np.stack([labels for _, labels in patches])
        if key.purpose == "training":
            images = self._augmentation.change_intensity(images, random)
        return Batch(images, labels, tuple(cases))

    def cases_of(self, key: BatchKey) -> Sequence[str]:
        """Cases of a batch, without making it."""
        return self._samplers[key.purpose].draw_cases(self._random(key))

    def _random(self, key: BatchKey) -> Generator:
        return np.random.default_rng((self._seed, _STREAMS[key.purpose], key.epoch, key.index))

    def _patch(
        self, sampler: PatchSampler, random: Generator, case: str, position: int, purpose: Purpose
    ) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
        place = sampler.draw_place(random, case, position)
        draw = self._augmentation.draw_spatial(random) if purpose == "training" else SpatialDraw(None, ())
        return read_patch(sampler, place, draw)


def read_patch(sampler: PatchSampler, place: Place, draw: SpatialDraw) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Read a patch, and around it what its transform needs; transform it.

    Returns:
        The image (C, Z, Y, X) and labels (Z, Y, X) of the sampler's patch size.
    """
    case, size = sampler.cases[place.case], sampler.patch_size
    if draw.matrix is None:
        image, labels = read_image(case, place.start, size), read_labels(case, place.start, size)
    else:
        box, extent = source_box(place.start, size, draw.matrix)
        image, labels = transform(
            read_image(case, box, extent), read_labels(case, box, extent), box, place.start, size, draw.matrix
        )
    return mirror(image, draw.mirrored), mirror(labels, draw.mirrored)
