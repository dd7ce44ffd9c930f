"""The second network of a cascade sees the first one's segmentation, moved and disturbed as it should be."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from skimage.morphology import ball

from configs.errors import InputError
from configs.files import read_json
from configs.plan import Plan
from configs.training import TrainingConfig
from inference.cascade import on_prepared_grid, one_hot
from preprocessing.store import CaseStore
from tests.preprocessing.way_back import restore_labels
from tests.trainers.balls import tiny_plan
from trainers import train
from trainers.augmentation.planned import make_augmentation
from trainers.data.batches import BatchKey, BatchMaker
from trainers.data.cases import CaseInMemory
from trainers.data.disturbance import disturb, grow, shrink
from trainers.data.patches import PatchSampler
from trainers.monitoring.history import History


def test_labels_come_back_from_the_original_grid(work: Path) -> None:
    case = CaseStore(work / "Balls" / "preprocessed" / "3d_fullres").read("case_0")
    trace, labels = case.properties.trace, case.labels[:]
    there_and_back = on_prepared_grid(restore_labels(labels, trace), trace)
    assert there_and_back.shape == labels.shape
    assert (there_and_back == labels).mean() > 0.98


def maker(purpose_labels: np.ndarray, previous: np.ndarray) -> BatchMaker:
    image = np.random.default_rng(0).normal(size=(1, *purpose_labels.shape)).astype(np.float32)
    case = CaseInMemory(image, purpose_labels, {}, previous)
    sampler = PatchSampler({"case": case}, (8, 8, 8), 2, 0.0, ())
    planned = tiny_plan().network("3d_fullres", "baseline")
    normalisation = tiny_plan().configuration("3d_fullres").normalisation
    augmentation = make_augmentation(planned, normalisation, TrainingConfig())
    return BatchMaker(sampler, sampler, augmentation, 0, cascade_channels=2)


def test_channels_move_with_the_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainers.data.batches.disturb", lambda segmentation, random: segmentation)
    labels = np.random.default_rng(0).integers(0, 3, (3, 3, 3)).repeat(5, 0).repeat(5, 1).repeat(5, 2).astype(np.int16)
    made = maker(labels, labels)
    for index in range(12):
        batch = made[BatchKey("training", 0, index)]
        assert batch.images.shape == (2, 3, 8, 8, 8)
        for image, found in zip(batch.images, batch.labels, strict=True):
            np.testing.assert_array_equal(image[1:], one_hot(found, 2))


def test_validation_sees_it_undisturbed() -> None:
    labels = np.random.default_rng(0).integers(0, 3, (12, 12, 12)).astype(np.int16)
    batch = maker(np.zeros_like(labels), labels)[BatchKey("validation", 0, 0)]
    windows = np.lib.stride_tricks.sliding_window_view(one_hot(labels, 2)[0], (8, 8, 8))
    assert (windows == batch.images[0, 1]).all((-1, -2, -3)).any()


@pytest.mark.parametrize("radius", [1, 3])
def test_growing_and_shrinking_are_those_by_a_ball(radius: int) -> None:
    mask = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(20, 18, 16)), 2) > 0.02
    np.testing.assert_array_equal(grow(mask, radius), ndimage.binary_dilation(mask, ball(radius)))
    np.testing.assert_array_equal(shrink(mask, radius), ndimage.binary_erosion(mask, ball(radius)))
    assert not grow(np.zeros_like(mask), radius).any()
    assert shrink(np.ones_like(mask), 1)[1:-1, 1:-1, 1:-1].all()


def test_disturbances_are_as_frequent_as_they_should_be_and_keep_classes_apart() -> None:
    labels = np.zeros((16, 16, 16), np.int16)
    labels[2:8, 2:8, 2:8], labels[9:14, 9:14, 9:14] = 1, 2
    random, changed = np.random.default_rng(0), 0
    for _ in range(400):
        before = one_hot(labels, 2)
        after = disturb(before.copy(), random)
        assert set(np.unique(after)) <= {0, 1}
        assert after.sum(0).max() <= 1
        changed += not np.array_equal(before, after)
    expected = 1 - (0.6 + 0.4 * 0.25) * (0.8 + 0.2 * 0.25)
    assert changed / 400 == pytest.approx(expected, abs=0.1)  # opening and closing may leave a cube as it is


def cascade_plan(work: Path) -> None:
    """The plan of `Balls` with a cascade of the same resolution."""
    plan = tiny_plan()
    full = plan.configuration("3d_fullres")
    planned = full.networks["baseline"]
    second = planned.model_copy(update={"network": planned.network.model_copy(update={"input_channels": 3})})
    cascade = full.model_copy(update={"previous": "3d_fullres", "cases_of": "3d_fullres", "networks": {"baseline": second}})
    configurations = {**plan.configurations, "3d_cascade_fullres": cascade}
    plan.model_copy(update={"configurations": configurations}).write(work / "Balls" / "plan.json")


def test_a_cascade_trains_on_what_other_folds_gave(work: Path, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(History, "write_picture", lambda history, path: path.write_bytes(b""))
    cascade_plan(work)
    short = config.model_copy(update={"epochs": 1, "volumes_every": 1})

    def run(configuration: str, fold: int | str) -> Path:
        return train("Balls", work, "baseline", configuration, fold, short, device="cpu")

    run("3d_fullres", "all")
    for fold in range(4):
        run("3d_fullres", fold)
    with pytest.raises(InputError, match=r"no fold of .*3d_fullres_baseline has segmented it"):
        run("3d_cascade_fullres", 0)
    run("3d_fullres", 4)
    folder = run("3d_cascade_fullres", 0)
    assert pd.read_csv(folder / "log.csv")["volume_dice"].between(0, 1).all()
    assert read_json(folder / "validation" / "metrics.json")["cases"]
    assert Plan.read(folder.parent / "plan.json").configuration("3d_cascade_fullres").previous == "3d_fullres"
