"""Folds side by side: on which devices, and one progress for all of them."""

import io
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

import pytest

from configs.training import load_training_config
from tests.trainers.balls import tiny_plan
from trainers.pipeline import devices
from trainers.pipeline.devices import choose_devices, same_devices
from trainers.pipeline.schedule import Training
from trainers.pipeline.told_progress import ToldProgress, messages_of
from trainers.pipeline.whole_progress import whole_progress

T = TypeVar("T")
GIB = 2**30
SECONDS = {"epoch": 2.0, "Validating": 5.0}


def trainings(number: int) -> list[Training]:
    return [Training(configuration="3d_fullres", network="baseline", fold=fold, seconds=50.0) for fold in range(number)]


class Noted:
    """A progress display that keeps what it is told."""

    def __init__(self) -> None:
        self.done, self.total, self.notes = 0, 0, [""]

    def track(self, items: Iterable[T], description: str, total: int) -> Iterator[T]:
        self.total = total
        for item in items:
            yield item
            self.done += 1

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with 16 processors, 64 GiB and no GPU."""
    monkeypatch.setattr(devices.joblib, "cpu_count", lambda: 16)
    monkeypatch.setattr(devices, "available_bytes", lambda: 64 * GIB)
    monkeypatch.setattr(devices, "existing_devices", lambda: ["cpu", "mps"])
    return monkeypatch


def chosen(number: int, *wanted: str) -> tuple[str, ...]:
    return choose_devices(wanted, tiny_plan(), trainings(number), load_training_config("quick"))


def test_on_a_cpu_there_are_as_many_trainings_as_processors_and_memory_allow(machine: pytest.MonkeyPatch) -> None:
    assert chosen(10) == ("cpu",) * 10
    assert chosen(20) == ("cpu",) * 16
    machine.setattr(devices, "available_bytes", lambda: 6 * GIB)
    assert chosen(10) == ("cpu",) * 2
    machine.setattr(devices, "available_bytes", lambda: 0)
    assert chosen(10) == ("cpu",)


def test_gpus_are_preferred_and_named_devices_kept(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(devices, "existing_devices", lambda: ["cpu", "cuda:0", "cuda:1"])
    assert chosen(10) == ("cuda:0", "cuda:1")
    assert chosen(10, "cpu") == ("cpu",)


def test_a_run_that_goes_on_has_as_many_trainings_side_by_side_as_before(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(devices, "available_bytes", lambda: 0)
    assert same_devices((), 3) == ("cpu",) * 3
    assert same_devices(("cpu",), 3) == ("cpu",)


def told(epochs: int, cases: int) -> str:
    """The output of a process that trains, with a warning among it."""
    output = io.StringIO()
    progress = ToldProgress(output)
    for epoch in range(epochs):
        for step in progress.track(range(3), f"epoch {epoch + 1}/{epochs}", 3):
            progress.note(f"loss {step}")
    print("a warning", file=output)
    list(progress.track(range(cases), "Validating", cases))
    return output.getvalue()


def test_what_a_process_tells_is_shown_and_its_messages_are_kept() -> None:
    noted, (training,) = Noted(), trainings(1)
    with whole_progress(noted, [training]) as whole:
        with whole.training(training, SECONDS) as shown:
            assert messages_of(io.StringIO(told(4, 2)), shown) == ["a warning"]
            assert shown.passed == 4 * 3 * 2.0 + 2 * 5.0
        assert any("3d_fullres_baseline, fold 0, epoch 4/4  loss 2" in note for note in noted.notes)
    assert (noted.done, noted.total) == (50, 50)


def test_messages_are_kept_where_nobody_looks_on() -> None:
    assert messages_of(io.StringIO(told(1, 1)), None) == ["a warning"]


def test_trainings_in_threads_of_their_own_add_up_to_the_whole() -> None:
    noted, all_of_them = Noted(), trainings(8)
    with whole_progress(noted, all_of_them) as whole:

        def train(training: Training) -> None:
            with whole.training(training, SECONDS) as shown:
                messages_of(io.StringIO(told(5, 3)), shown)

        threads = [threading.Thread(target=train, args=(training,)) for training in all_of_them]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (noted.done, noted.total) == (400, 400)


def test_the_notes_of_all_running_trainings_are_shown() -> None:
    noted, (first, second) = Noted(), trainings(2)
    with whole_progress(noted, [first, second]) as whole, whole.training(first, SECONDS) as one:
        with whole.training(second, SECONDS) as other:
            one.show("epoch 1/4", 1, "loss 3")
            other.show("epoch 2/4", 1, "loss 2")
            assert (
                noted.notes[-1]
                == "3d_fullres_baseline, fold 0, epoch 1/4  loss 3; 3d_fullres_baseline, fold 1, epoch 2/4  loss 2"
            )
        one.note("loss 1")
        assert noted.notes[-1] == "3d_fullres_baseline, fold 0, epoch 1/4  loss 1"
