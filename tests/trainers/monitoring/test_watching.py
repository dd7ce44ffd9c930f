"""What a user sees of a running training: loggers, the note beside the bar, the preview, whole volumes, averaged weights."""

import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from configs.errors import InputError
from configs.training import TrainingConfig
from inference.sizes.measure import spread_evenly
from trainers import train
from trainers.monitoring.history import History
from trainers.monitoring.loggers import make_loggers
from trainers.monitoring.progress_note import ProgressNote, duration
from trainers.monitoring.validation import VolumeCheck


def run(work: Path, config: TrainingConfig, **options: object) -> Path:
    return train("Balls", work, "baseline", config=config, device="cpu", **options)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(History, "write_picture", lambda history, path: path.write_bytes(b""))


class Recorder(ModuleType):
    """Stands for a logging package: notes every call."""

    def __init__(self) -> None:
        super().__init__("recorder")
        self.calls: list[tuple[str, Any, Any]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*arguments: Any, **options: Any) -> Any:
            self.calls.append((name, arguments, options))
            return self

        return call


def test_mlflow_and_wandb_get_what_was_measured(work: Path, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow, wandb = Recorder(), Recorder()
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    run(work, config.model_copy(update={"loggers": ("mlflow", "wandb"), "epochs": 2, "validate_every": 2}))
    metrics = [arguments[0] for name, arguments, _ in mlflow.calls if name == "log_metrics"]
    assert "training_loss" in metrics[0]
    assert "pseudo_dice_bright" not in metrics[0], "not measured"
    assert "pseudo_dice_bright" in metrics[1]
    assert [options["step"] for name, _, options in wandb.calls if name == "log"] == [1, 2]
    assert mlflow.calls[-1][0] == "end_run"
    assert wandb.calls[-1][0] == "finish"


def test_tensorboard_gets_a_curve_for_each_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Recorder()
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=lambda folder: writer))
    (logger,) = make_loggers(["tensorboard"], tmp_path, "run", {"seed": 1})
    logger.log({"epoch": 3, "loss": 0.5, "absent": math.nan})
    assert [arguments for name, arguments, _ in writer.calls if name == "add_scalar"] == [("loss", 0.5, 3)]


def test_packages_that_are_missing_are_all_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError) as caught:
        make_loggers(["mlflow", "wandb"], tmp_path, "run", {})
    assert [fault.where for fault in caught.value.faults] == ["logger `mlflow`", "logger `wandb`"]
    assert "pip install 'se-unet[mlflow]'" in str(caught.value)


def test_the_note_tells_loss_dice_rate_and_waiting() -> None:
    note = ProgressNote(total_steps=100)
    note.text(1, 0.5, 0.01, 0.1, {})
    text = note.text(2, math.nan, 0.01, 0.25, {"liver": 0.876, "spleen": 0.5})
    assert text.startswith("loss 0.500  Dice liver 0.88, spleen 0.50  lr 1.0e-02  waiting for data 25%  remaining ")


@pytest.mark.parametrize(("seconds", "text"), [(40, "40 s"), (200, "3 min"), (7500, "2 h 05 min")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_preview_shows_patches(work: Path, config: TrainingConfig) -> None:
    fold = run(work, config.model_copy(update={"epochs": 1}), preview=True)
    assert (fold / "preview.png").read_bytes().startswith(b"\x89PNG")


def test_whole_volumes_decide_which_weights_are_the_best(
    work: Path, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = iter([0.4, 0.9, 0.3])
    kept: list[dict[str, torch.Tensor]] = []

    def check(self: VolumeCheck) -> float:
        kept.append({name: tensor.clone() for name, tensor in self._network.state_dict().items()})
        return next(dice)

    monkeypatch.setattr(VolumeCheck, "__call__", check)
    fold = run(work, config.model_copy(update={"volumes_every": 2, "epochs": 5}))
    log = pd.read_csv(fold / "log.csv")
    assert log["volume_dice"].fillna(-1).tolist() == [-1, 0.4, -1, 0.9, 0.3]
    best = load_file(fold / "weights_best.safetensors")
    assert all(torch.equal(tensor, best[name]) for name, tensor in kept[1].items())


def test_whole_volumes_are_really_predicted(work: Path, config: TrainingConfig) -> None:
    fold = run(work, config.model_copy(update={"volumes_every": 1, "volumes": 1, "epochs": 2}))
    assert pd.read_csv(fold / "log.csv")["volume_dice"].between(0, 1).all()


def test_cases_of_the_check_are_spread() -> None:
    assert spread_evenly(list("abcdef"), 3) == ["a", "c", "e"]
    assert spread_evenly(["a", "b"], 4) == ["a", "b"]


def test_averaged_weights_are_what_is_kept_and_resumed(work: Path, config: TrainingConfig) -> None:
    averaged = config.model_copy(update={"weight_average": 0.9, "epochs": 2, "polynomial": 0.0})
    fold = run(work, averaged)
    final = load_file(fold / "weights_final.safetensors")
    state = torch.load(fold / "checkpoint_latest.pt", weights_only=True)
    assert all(torch.equal(tensor, state["average"][f"module.{name}"]) for name, tensor in final.items())
    assert not all(torch.equal(tensor, state["network"][name]) for name, tensor in final.items())
    run(work, averaged.model_copy(update={"epochs": 1}), tag="broken")
    resumed = load_file(run(work, averaged, tag="broken", resume=True) / "weights_final.safetensors")
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in final.items())
