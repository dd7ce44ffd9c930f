"""Augmentation on the device: the geometry of the loading processes, and the moments of their intensities."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy import ndimage

from configs.progress import Silent
from configs.training import TrainingConfig
from preprocessing.store import CaseStore
from trainers import train
from trainers.augmentation.intensity import augment_intensity, intensity_transforms
from trainers.augmentation.on_device import (
    IntensityDraw,
    Pending,
    apply_gamma,
    apply_intensity,
    blur,
    coarsen,
    draw_intensity,
    finish,
    stretch,
)
from trainers.augmentation.planned import PlannedAugmentation
from trainers.augmentation.spatial import SpatialDraw, rotation_matrix, source_box, spatial_ranges
from trainers.data.batches import BatchKey, BatchMaker, read_patch
from trainers.data.cases import CaseInMemory, open_cases
from trainers.data.patches import PatchSampler, Place
from trainers.monitoring.history import History

PATCH = (12, 10, 14)


def smooth(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=shape)
    return (ndimage.gaussian_filter(noise, (0, 1.5, 1.5, 1.5)) * 5).astype(np.float32)


@pytest.mark.parametrize("mirrored", [(), (0, 2)])
def test_a_batch_is_turned_as_its_patches_by_themselves(mirrored: tuple[int, ...]) -> None:
    volume = smooth((2, 32, 34, 30))
    labels = (volume[0] > 0.2).astype(np.int16) + (volume[1] > 0.4)
    case = CaseInMemory(volume, labels, {})
    sampler = PatchSampler({"case": case}, PATCH, 2, 0.0, ())
    starts = [(8, 11, 7), (9, 10, 8)]
    matrices = [rotation_matrix(0.3, -0.2, 0.1) * 0.8, np.eye(3)]
    boxes = [source_box(start, PATCH, matrix) for start, matrix in zip(starts, matrices, strict=True)]
    extent = tuple(max(sizes) for sizes in zip(*(size for _, size in boxes), strict=True))
    images, targets = [], []
    for box, _ in boxes:
        inside = tuple(slice(first, first + length) for first, length in zip(box, extent, strict=True))
        images.append(volume[(slice(None), *inside)])
        targets.append(labels[inside])
    flips = np.diag([-1.0 if axis in mirrored else 1.0 for axis in range(3)])
    pending = Pending(
        PATCH,
        (np.array(starts) - np.array([box for box, _ in boxes])).astype(np.float32),
        np.stack([matrix @ flips for matrix in matrices]).astype(np.float32),
        (),
    )
    found, classes = finish(torch.tensor(np.stack(images)), torch.tensor(np.stack(targets)), pending)
    for index, start in enumerate(starts):
        image, expected = read_patch(sampler, Place("case", start), SpatialDraw(matrices[index], mirrored))
        np.testing.assert_allclose(found[index].numpy(), image, atol=1e-4)
        assert (classes[index].numpy() == expected).mean() > 0.999  # ties may fall otherwise


def test_parts_do_what_they_say() -> None:
    volume = torch.tensor(smooth((1, 16, 14, 12))[0])
    expected = ndimage.gaussian_filter(volume.numpy(), (0.5, 0.8, 1.0), mode="mirror")
    np.testing.assert_allclose(blur(volume, (0.5, 0.8, 1.0)).numpy(), expected, atol=1e-5)
    image = volume[None]
    changed = stretch(image, torch.full((1, 1, 1, 1), 1.2))
    assert changed.amax() <= image.amax() + 1e-6
    assert changed.std() > 1.1 * image.std()
    gamma = apply_gamma(image, torch.full((1, 1, 1, 1), 1.4))
    assert [float(gamma.mean()), float(gamma.std())] == pytest.approx([float(image.mean()), float(image.std())], abs=1e-4)
    assert not torch.allclose(gamma, image, atol=1e-2)
    coarse = coarsen(volume, 0.5, across=0)
    assert coarse.shape == volume.shape
    assert (coarse - volume).abs().mean() > 0.01
    assert torch.equal(coarsen(volume, 1.0, None), volume)


def test_nothing_drawn_changes_nothing_and_the_same_draw_gives_the_same() -> None:
    images = torch.tensor(smooth((2, 8, 8, 8)))[None]
    assert torch.equal(apply_intensity(images.clone(), [IntensityDraw()]), images)
    draws = [draw_intensity(np.random.default_rng(seed), 2) for seed in range(40)]
    batch = images.repeat(40, 1, 1, 1, 1)
    assert torch.equal(apply_intensity(batch.clone(), draws), apply_intensity(batch.clone(), draws))


def moments(images: np.ndarray) -> np.ndarray:
    """Of each patch: mean, standard deviation, lowest, highest, roughness."""
    flat = images.reshape(len(images), -1)
    rough = np.abs(np.diff(images, axis=-1)).reshape(len(images), -1).mean(1)
    return np.stack([flat.mean(1), flat.std(1), flat.min(1), flat.max(1), rough], 1)


def test_moments_are_those_of_the_loading_processes() -> None:
    number = 1500
    images = np.repeat(smooth((1, 12, 12, 12))[None], number, 0)
    random = np.random.default_rng(0)
    theirs = moments(augment_intensity(images.copy(), intensity_transforms(), np.random.default_rng(1)))
    ours = moments(apply_intensity(torch.tensor(images), [draw_intensity(random, 1) for _ in range(number)]).numpy())
    spread = theirs.std(0)
    np.testing.assert_allclose(ours.mean(0), theirs.mean(0), atol=float(0.12 * spread.max()))
    assert np.abs(ours.mean(0) - theirs.mean(0)) / spread == pytest.approx(np.zeros(5), abs=0.15)
    np.testing.assert_allclose(ours.std(0), spread, rtol=0.25)
    untouched = [np.isclose(values, moments(images[:1])).all(1).mean() for values in (ours, theirs)]
    assert untouched[0] == pytest.approx(untouched[1], abs=0.05)
    stronger = moments(images * 1.3)
    assert (np.abs(stronger.mean(0) - theirs.mean(0)) / spread).max() > 0.3, "another augmentation would show"
    assert math.isfinite(float(ours.sum()))


def test_a_training_augments_on_its_device(work: Path, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(History, "write_picture", lambda history, path: path.write_bytes(b""))
    on_device = config.model_copy(update={"augment_on": "device", "epochs": 2, "workers": 1})
    fold = train("Balls", work, "baseline", config=on_device, device="cpu")
    again = train("Balls", work, "baseline", config=on_device, device="cpu", tag="again")
    first, second = (load_file(folder / "weights_final.safetensors") for folder in (fold, again))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_without_intensities_the_device_gives_the_batches_of_the_workers(work: Path) -> None:
    store = CaseStore(work / "Balls" / "preprocessed" / "3d_fullres")
    cases = open_cases(store, store.identifiers(), Silent())
    sampler = PatchSampler(cases, (8, 8, 8), 2, 1 / 3, ((1,), (2,)))
    augmentation = PlannedAugmentation(spatial_ranges((8, 8, 8), (0.7, 1.4), (0, 1, 2)), None, intensity=False)
    on_workers, on_device = (BatchMaker(sampler, sampler, augmentation, 0, on_device=choice) for choice in (False, True))
    turned = 0
    for index in range(20):
        key = BatchKey("training", 0, index)
        expected, batch = on_workers[key], on_device[key]
        assert batch.pending is not None
        images, labels = finish(torch.tensor(batch.images), torch.tensor(batch.labels), batch.pending)
        np.testing.assert_allclose(images.numpy(), expected.images, atol=2e-3)
        assert (labels.numpy() == expected.labels).mean() > 0.99
        turned += batch.images.shape[2:] != (8, 8, 8)
    assert turned > 5
    assert on_device[BatchKey("validation", 0, 0)].pending is None
