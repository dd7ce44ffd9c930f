"""Batches: a function of seed and number alone, in order from any number of workers; what goes wrong names its cases."""

import os
import signal
from collections.abc import Iterator
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from configs.progress import Silent
from configs.training import TrainingConfig
from preprocessing.store import CaseStore
from tests.trainers.balls import tiny_plan
from trainers.augmentation.planned import make_augmentation
from trainers.data import loading
from trainers.data.batches import Batch, BatchKey, BatchMaker, BatchSchedule, LoadingError
from trainers.data.cases import CaseInMemory, open_cases
from trainers.data.loading import BatchStream
from trainers.data.patches import PatchSampler

KEYS = [*(BatchKey("training", 0, index) for index in range(6)), BatchKey("validation", 0, 0), BatchKey("training", 1, 0)]


def labels() -> np.ndarray:
    volume = np.zeros((12, 14, 13), np.int16)
    volume[4:8, 5:9, 5:9] = 1
    return volume


def case(seed: int) -> CaseInMemory:
    image = np.random.default_rng(seed).normal(size=(1, 12, 14, 13)).astype(np.float32)
    return CaseInMemory(image, labels(), {1: np.argwhere(labels() == 1).astype(np.int32)})


def maker(cases: dict[str, CaseInMemory] | None = None, seed: int = 0) -> BatchMaker:
    plan = tiny_plan()
    planned = plan.network("3d_fullres", "baseline")
    cases = cases or {name: case(index) for index, name in enumerate("abcd")}
    sampler = PatchSampler(cases, planned.patch_size, planned.batch_size, 1 / 3, ((1,), (2,)))
    normalisation = plan.configuration("3d_fullres").normalisation
    return BatchMaker(sampler, sampler, make_augmentation(planned, normalisation, TrainingConfig()), seed)


@pytest.fixture
def stream() -> Iterator[BatchStream]:
    """Two workers; closed afterwards."""
    opened = BatchStream(maker(), KEYS, 2)
    yield opened
    opened.close()


def assert_same(first: Batch, second: Batch) -> None:
    assert first.cases == second.cases
    np.testing.assert_array_equal(first.images, second.images)
    np.testing.assert_array_equal(first.labels, second.labels)


def test_batches_have_the_planned_shapes() -> None:
    batch = maker()[KEYS[0]]
    assert batch.images.shape == (2, 1, 8, 8, 8)
    assert batch.images.dtype == np.float32
    assert batch.labels.shape == (2, 8, 8, 8)
    assert batch.labels.dtype == np.int16


def test_workers_give_the_batches_of_the_main_process_in_order(stream: BatchStream) -> None:
    for expected, found in zip(BatchStream(maker(), KEYS, 0), stream, strict=True):
        assert_same(expected, found)
    assert stream.waited > 0


def test_another_number_or_seed_gives_another_batch() -> None:
    first = maker()[KEYS[0]].images
    assert not np.array_equal(first, maker()[KEYS[1]].images)
    assert not np.array_equal(first, maker(seed=1)[KEYS[0]].images)


def test_validation_patches_are_not_augmented() -> None:
    made = maker()
    batch = made[KEYS[6]]
    for image, name in zip(batch.images, batch.cases, strict=True):
        volume = case("abcd".index(name)).image[0]
        windows = np.lib.stride_tricks.sliding_window_view(volume, (8, 8, 8))
        assert (windows == image[0]).all((-1, -2, -3)).any()


def test_schedule_is_the_order_of_the_loop() -> None:
    schedule = BatchSchedule(epochs=5, iterations=3, validate_every=2, validation_iterations=2)
    kinds = [(key.purpose[0], key.epoch, key.index) for key in schedule.keys(0)]
    expected = []
    for epoch in range(5):
        expected += [("t", epoch, index) for index in range(3)]
        expected += [("v", epoch, index) for index in range(2) if epoch in (1, 3, 4)]
    assert kinds == expected
    assert [(key.purpose[0], key.epoch, key.index) for key in schedule.keys(1, 2)] == expected[expected.index(("t", 1, 2)) :]
    assert next(schedule.keys(1, 3)) == BatchKey("validation", 1, 0)


class Broken:
    """A case whose image cannot be read."""

    labels = labels()
    class_locations: ClassVar[dict[int, np.ndarray]] = {}

    @property
    def image(self) -> np.ndarray:
        raise OSError("the disk is gone")


class Deadly(Broken):
    """A case that kills the process which reads it, as the system does for want of memory."""

    @property
    def image(self) -> np.ndarray:
        os.kill(os.getpid(), signal.SIGKILL)
        return np.zeros(0)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_case_that_fails_is_named(workers: int) -> None:
    stream = BatchStream(maker({"broken": Broken()}), KEYS, workers)  # type: ignore[dict-item]
    with pytest.raises(LoadingError, match="case `broken` in training batch 1 of epoch 1: OSError: the disk is gone"):
        next(stream)
    stream.close()


def test_a_dead_worker_ends_the_training_with_the_cases_in_question() -> None:
    stream = BatchStream(maker({"deadly": Deadly()}), KEYS, 1)  # type: ignore[dict-item]
    with pytest.raises(
        LoadingError,
        match=r"(?s)died or hangs while waiting for training batch 1 of epoch 1 \(cases deadly, deadly\).*-9: killed.*GiB.*--workers",
    ):
        next(stream)
    stream.close()


def test_workers_outlive_signals_to_the_whole_group(stream: BatchStream) -> None:
    for _ in range(2):  # one of each worker: both are at work
        next(stream)
    for worker in stream._batches._workers:  # type: ignore[union-attr]
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            os.kill(worker.pid, number)
    assert len(list(stream)) == len(KEYS) - 2


def test_a_dead_worker_is_explained_wherever_it_is_noticed(stream: BatchStream) -> None:
    """PyTorch's handler raises in the main process, which may be anywhere."""
    with pytest.raises(
        LoadingError,
        match=r"died or hangs while waiting for training batch 1 of epoch 1 .*: DataLoader worker \(pid 5\)",
    ):
        stream.explain(RuntimeError("DataLoader worker (pid 5) is killed by signal: Killed."))
    stream.explain(RuntimeError("something else"))
    stream.close()


def test_a_closed_stream_has_ended_its_workers() -> None:
    stream = BatchStream(maker(), KEYS, 1)
    next(stream)
    workers = list(stream._batches._workers)  # type: ignore[union-attr]
    stream.close()
    for worker in workers:
        worker.join(10)
    assert not any(worker.is_alive() for worker in workers)
    with pytest.raises(StopIteration):
        next(stream)


@pytest.mark.parametrize("reads", [0, 2])
def test_workers_end_even_where_an_error_is_kept(reads: int) -> None:
    """Its traceback holds the loader; a process that ends would otherwise wait for its workers forever."""
    cases = {"good": case(0), "broken": Broken()} if reads else {"broken": Broken()}
    stream = BatchStream(maker(cases), [*KEYS, *KEYS], 1)  # type: ignore[arg-type]
    workers = list(stream._batches._workers)  # type: ignore[union-attr]
    with pytest.raises(LoadingError) as kept:
        list(stream)
    stream.close()
    for worker in workers:
        worker.join(10)
    assert not any(worker.is_alive() for worker in workers)
    assert kept.value.__traceback__ is not None


def test_cases_on_disk_and_in_memory_give_the_same_batches(work: Path) -> None:
    store = CaseStore(work / "Balls" / "preprocessed" / "3d_fullres")
    names = store.identifiers()
    on_disk, in_memory = open_cases(store, names, Silent(), limit=0), open_cases(store, names, Silent())
    assert all(isinstance(one, CaseInMemory) for one in in_memory.values())
    assert not any(isinstance(one, CaseInMemory) for one in on_disk.values())
    for key in KEYS:
        assert_same(maker(on_disk)[key], maker(in_memory)[key])  # type: ignore[arg-type]


@pytest.mark.parametrize(("free", "most"), [(2**30, 2000), (2**10, 10**9)])
def test_batches_travel_in_shared_memory_where_there_is_room(monkeypatch: pytest.MonkeyPatch, free: int, most: int) -> None:
    """Through the pipe go some hundred bytes, not the arrays; without room they go through the pipe as before."""
    monkeypatch.setattr(loading.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    batch = maker()[KEYS[0]]
    packed = loading._packed(batch, workers=2)
    sent = len(ForkingPickler.dumps(packed))
    assert sent < most and (sent < batch.images.nbytes) == (free == 2**30)
    assert_same(packed.batch(), batch)
    assert packed.batch().images.dtype == np.float32 and isinstance(packed.batch().labels, np.ndarray)
