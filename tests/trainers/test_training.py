"""The whole training of one fold: what it leaves behind, that it goes on where it stopped, and that it guards what is there."""

import math
import os
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from configs.errors import InputError
from configs.files import read_json, write_json
from configs.outputs import held
from configs.plan import Plan
from configs.training import TrainingConfig
from inference.sizes.measure import Looks
from preprocessing.formats.images import read_labels
from trainers import loop, train
from trainers.data.loading import BatchStream
from trainers.interruption import TrainingInterruptedError
from trainers.monitoring.history import History
from trainers.optimisation.loss import DeepSupervision
from trainers.optimisation.optimiser import learning_rate


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than these trainings; `test_history` looks at it."""
    monkeypatch.setattr(History, "write_picture", lambda history, path: path.write_bytes(b""))


def run(work: Path, config: TrainingConfig, **options: object) -> Path:
    """Train the tiny network on the CPU."""
    return train("Balls", work, "baseline", config=config, device="cpu", **options)  # type: ignore[arg-type]


def interrupt_at(monkeypatch: pytest.MonkeyPatch, batch: int, number: signal.Signals = signal.SIGTERM) -> None:
    """Send this process a signal while it waits for a batch."""
    fetch = BatchStream.__next__
    count = iter(range(10**6))

    def fetch_and_signal(stream: BatchStream) -> object:
        if next(count) == batch:
            os.kill(os.getpid(), number)
        return fetch(stream)

    monkeypatch.setattr(BatchStream, "__next__", fetch_and_signal)


def weights(fold: Path, name: str = "final") -> dict[str, Tensor]:
    return load_file(fold / f"weights_{name}.safetensors")


def assert_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def without_times(fold: Path) -> pd.DataFrame:
    return pd.read_csv(fold / "log.csv").drop(columns=["seconds", "data_wait_share", "peak_memory"])


def test_folds_with_few_validation_cases_are_calibrated_together(work: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Looks take long, and fewer than four cases calibrate nothing."""
    caplog.set_level("INFO")
    config = TrainingConfig(epochs=1, iterations=1, validation_iterations=1, workers=0)
    folds = [run(work, config, fold=0), run(work, config, fold=1)]
    assert "not calibrated, since there are 3 of at least 4 validation cases" in caplog.text
    assert not any((fold / "looks.json").exists() for fold in folds)
    folds.append(run(work, config, fold=2))
    assert all((fold / "looks.json").is_file() for fold in folds)
    looks = [len(Looks.read(fold / "looks.json").cases) for fold in folds]
    assert looks == [2, 1, 1]
    assert (run(work, config, fold=3) / "looks.json").is_file(), "it joins those that are calibrated"


def test_a_kill_behind_the_last_checkpoint_leaves_no_gap_in_the_table(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainingConfig(epochs=2, iterations=1, validation_iterations=1, workers=0)
    show, calls = loop.Trainer._show, iter(range(10))

    def fail_at_the_end(trainer: loop.Trainer, is_last: bool) -> None:
        if next(calls) == 1:
            raise OSError("the disk is gone")
        show(trainer, is_last)

    with monkeypatch.context() as broken:
        broken.setattr(loop.Trainer, "_show", fail_at_the_end)
        with pytest.raises(OSError, match="gone"):
            run(work, config)
    fold = run(work, config, resume=True)
    assert list(pd.read_csv(fold / "log.csv")["epoch"]) == [1, 2] and (fold / "progress.png").exists()


def test_a_trained_fold_is_whole(work: Path, config: TrainingConfig) -> None:
    fold = run(work, config)
    assert fold == work / "Balls" / "models" / "3d_fullres_baseline" / "fold_0"
    files = {
        "weights_final.safetensors",
        "weights_best.safetensors",
        "checkpoint_latest.pt",
        "log.csv",
        "progress.png",
        "split.json",
        "validation",
    }
    assert {path.name for path in fold.iterdir()} == files
    log = pd.read_csv(fold / "log.csv")
    assert log["epoch"].tolist() == [1, 2, 3]
    assert log["learning_rate"].tolist() == pytest.approx([learning_rate(config, step) for step in (3, 7, 11)], rel=1e-4)
    assert {"pseudo_dice_bright", "pseudo_dice_dark"} <= set(log.columns)
    assert log["data_wait_share"].between(0, 1).all()
    assert log["peak_memory"].between(1e7, 1e12).all()
    assert TrainingConfig.read(fold.parent / "training.json") == config


def test_validation_lies_on_the_original_grid_and_is_scored(work: Path, config: TrainingConfig) -> None:
    fold = run(work, config)
    splits = read_json(work / "Balls" / "splits.json")
    names = splits[0]["val"]
    assert sorted(path.name for path in (fold / "validation").glob("*.nii.gz")) == [f"{name}.nii.gz" for name in names]
    for name in names:
        labels, geometry = read_labels(fold / "validation" / f"{name}.nii.gz")
        _, expected = read_labels(work.parent / "raw" / "labelsTr" / f"{name}.nii.gz")
        assert geometry == expected
        assert set(np.unique(labels)) <= {0, 2, 5}
    metrics = read_json(fold / "validation" / "metrics.json")
    assert list(metrics["cases"]) == names
    assert set(metrics["means"]) == {"bright", "dark"}


def test_training_learns(work: Path, config: TrainingConfig) -> None:
    longer = config.model_copy(update={"epochs": 6, "iterations": 25, "augmentation": False, "base_features": 4})
    fold = run(work, longer)
    log = pd.read_csv(fold / "log.csv")
    assert log["training_loss"].iloc[-1] < log["training_loss"].iloc[0] - 0.5
    assert log["ema_pseudo_dice"].iloc[-1] > log["ema_pseudo_dice"].iloc[0]
    assert read_json(fold / "validation" / "metrics.json")["mean_foreground_dice"] > 0.5


def test_the_same_seed_gives_the_same_weights_with_any_workers(work: Path, config: TrainingConfig) -> None:
    first = weights(run(work, config))
    assert_equal(first, weights(run(work, config.model_copy(update={"workers": 2}), tag="workers")))
    other = weights(run(work, config.model_copy(update={"seed": 1}), tag="other"))
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("batch", [2, 5, 6])
def test_an_interrupted_training_goes_on_as_if_unbroken(
    work: Path, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """Batches 0 to 3 of an epoch train, 4 and 5 validate; the signal comes while one of them is fetched."""
    unbroken = run(work, config, tag="unbroken")
    with monkeypatch.context() as patch:
        interrupt_at(patch, batch)
        with pytest.raises(TrainingInterruptedError, match="SIGTERM received: the training was saved and stopped"):
            run(work, config)
    resumed = run(work, config, resume=True)
    assert_equal(weights(unbroken), weights(resumed))
    assert_equal(weights(unbroken, "best"), weights(resumed, "best"))
    pd.testing.assert_frame_equal(without_times(unbroken), without_times(resumed))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1])
def test_other_signals_stop_it_too(
    work: Path, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 1, number)
        with pytest.raises(TrainingInterruptedError) as caught:
            run(work, config)
    assert caught.value.signal_number == number
    assert signal.getsignal(number) == before


def test_a_finished_training_can_be_extended(work: Path, config: TrainingConfig) -> None:
    fold = run(work, config)
    finished = weights(fold)
    longer = config.model_copy(update={"epochs": 5})
    run(work, longer, resume=True)
    log = pd.read_csv(fold / "log.csv")
    assert log["epoch"].tolist() == [1, 2, 3, 4, 5]
    assert log["learning_rate"].iloc[-1] == pytest.approx(learning_rate(longer, 19), rel=1e-4)
    assert not all(torch.equal(finished[name], value) for name, value in weights(fold).items())


def test_resuming_a_finished_training_changes_nothing(work: Path, config: TrainingConfig) -> None:
    fold = run(work, config)
    before = {path: path.stat().st_mtime_ns for path in fold.rglob("*")}
    run(work, config, resume=True)
    assert {path: path.stat().st_mtime_ns for path in fold.rglob("*")} == before
    (fold / "validation" / "metrics.json").unlink()
    run(work, config, resume=True)
    assert (fold / "validation" / "metrics.json").is_file()


def test_what_is_trained_is_not_overwritten_unless_asked(
    work: Path, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupt_at(patch, 7)
        with pytest.raises(TrainingInterruptedError):
            run(work, config)
    with pytest.raises(InputError, match=r"an unfinished training after 1 epoch.*--resume.*--restart"):
        run(work, config)
    fold = run(work, config, restart=True)
    assert pd.read_csv(fold / "log.csv")["epoch"].tolist() == [1, 2, 3]
    with pytest.raises(InputError, match=r"a finished training.*--restart"):
        run(work, config)


def test_final_weights_without_a_checkpoint_are_kept(work: Path, config: TrainingConfig) -> None:
    fold = run(work, config)
    (fold / "checkpoint_latest.pt").unlink()
    with pytest.raises(InputError, match="a finished training"):
        run(work, config)
    with pytest.raises(InputError, match=r"checkpoint_latest.pt is missing beside the final weights.*--validate-only"):
        run(work, config, resume=True)
    with pytest.raises(InputError, match="setting `seed`"):
        run(work, config.model_copy(update={"seed": 5}), fold=1)


def test_one_model_has_one_set_of_settings(work: Path, config: TrainingConfig) -> None:
    run(work, config)
    other = config.model_copy(update={"learning_rate": 0.5, "seed": 3, "workers": 1})
    for options in ({"fold": 1}, {"fold": 0, "resume": True}):
        with pytest.raises(InputError) as caught:
            run(work, other, **options)
        assert [fault.where for fault in caught.value.faults] == ["setting `learning_rate`", "setting `seed`"]
    with pytest.raises(InputError, match="setting `epochs`"):
        run(work, config.model_copy(update={"epochs": 9}), fold=1)
    assert run(work, other, fold=1, tag="other").is_dir()
    assert run(work, other, fold=0, restart=True).is_dir()


def test_settings_change_the_models_plan(work: Path, config: TrainingConfig) -> None:
    changed = config.model_copy(update={"base_features": 3, "batch_size": 1, "mirror": False, "deep_supervision": False})
    fold = run(work, changed)
    planned = Plan.read(fold.parent / "plan.json").network("3d_fullres", "baseline")
    assert planned.network.features == (3, 6, 6)
    assert planned.batch_size == 1
    assert planned.mirror_axes == ()
    assert not planned.network.deep_supervision
    assert Plan.read(work / "Balls" / "plan.json").network("3d_fullres", "baseline").network.features == (2, 4, 4)


def test_fold_all_trains_and_validates_on_all(work: Path, config: TrainingConfig) -> None:
    fold = run(work, config, fold="all")
    assert fold.name == "fold_all"
    assert len(read_json(fold / "validation" / "metrics.json")["cases"]) == 6


def test_validation_alone(work: Path, config: TrainingConfig) -> None:
    with pytest.raises(InputError, match=r"weights_final\S* is missing"):
        run(work, config, validate_only=True)
    fold = run(work, config)
    before = (fold / "checkpoint_latest.pt").stat().st_mtime_ns
    (fold / "validation" / "metrics.json").unlink()
    run(work, config, validate_only=True)
    assert (fold / "validation" / "metrics.json").is_file()
    assert (fold / "checkpoint_latest.pt").stat().st_mtime_ns == before


def change_spacing(work: Path, spacing: tuple[float, float, float]) -> None:
    """Change the spacing in the dataset's plan, as another run of the planner or an editor does."""
    file = work / "Balls" / "plan.json"
    plan = read_json(file)
    plan["configurations"]["3d_fullres"]["spacing"] = spacing
    write_json(file, plan)


def test_cases_that_another_plan_prepared_are_not_trained_on(work: Path, config: TrainingConfig) -> None:
    change_spacing(work, (1.5, 1.5, 1.5))
    with pytest.raises(
        InputError, match=r"another plan or an earlier version prepared 6 cases \(case_0, case_1, case_2 and 3 more\)"
    ):
        run(work, config)
    assert not (work / "Balls" / "models").exists()


def test_validation_takes_the_plan_of_the_model(work: Path, config: TrainingConfig) -> None:
    scores = run(work, config) / "validation" / "metrics.json"
    before = scores.read_bytes()
    change_spacing(work, (1.5, 1.5, 1.5))
    run(work, config, validate_only=True)
    assert scores.read_bytes() == before
    for file in (work / "Balls" / "preprocessed" / "3d_fullres").glob("*.json"):
        properties = read_json(file)
        write_json(file, properties | {"key": f"other-{properties['key']}"})
    with pytest.raises(InputError, match="another plan or an earlier version prepared"):
        run(work, config, validate_only=True)


def test_cases_do_not_change_while_a_training_reads_them(
    work: Path, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = work / "Balls" / "preprocessed" / "3d_fullres"
    fetch, refused = BatchStream.__next__, []

    def fetch_and_hold(stream: BatchStream) -> object:
        with held(store, to_read=True):  # as another fold does
            pass
        try:
            with held(store):
                pass
        except InputError as error:
            refused.append(error)
        return fetch(stream)

    monkeypatch.setattr(BatchStream, "__next__", fetch_and_hold)
    run(work, config)
    assert refused


def break_losses(monkeypatch: pytest.MonkeyPatch, broken: set[int]) -> None:
    """Make the losses of these calls NaN."""
    forward = DeepSupervision.forward
    count = iter(range(10**6))

    def forward_or_nan(loss: DeepSupervision, logits: Tensor, labels: Tensor) -> Tensor:
        return forward(loss, logits, labels) * (math.nan if next(count) in broken else 1)

    monkeypatch.setattr(DeepSupervision, "forward", forward_or_nan)


def test_steps_with_a_loss_that_is_not_finite_are_skipped(
    work: Path, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    break_losses(monkeypatch, {1, 2})
    fold = run(work, config)
    assert pd.read_csv(fold / "log.csv")["skipped_steps"].tolist() == [2, 0, 0]
    assert pd.read_csv(fold / "log.csv")["training_loss"].notna().all()
    assert all(value.isfinite().all() for value in weights(fold).values())
    assert caplog.text.count("skipped a step whose loss or gradients are not finite") == 2


def test_several_such_steps_in_a_row_end_the_training_with_the_cases(
    work: Path, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_losses(monkeypatch, set(range(100)))
    with pytest.raises(loop.NotFiniteError, match=r"5 consecutive steps \(cases case_"):
        run(work, config.model_copy(update={"iterations": 10}))


def test_dataset_that_is_not_planned(work: Path, config: TrainingConfig) -> None:
    with pytest.raises(InputError, match=r"planned datasets in .*: Balls.*se_plan_and_preprocess"):
        train("Bells", work, "baseline", config=config)


@pytest.mark.parametrize(("network", "configuration"), [("se", "3d_fullres"), ("baseline", "2d")])
def test_network_that_is_not_planned(work: Path, config: TrainingConfig, network: str, configuration: str) -> None:
    with pytest.raises(InputError, match="the plan holds"):
        train("Balls", work, network, configuration, config=config)
