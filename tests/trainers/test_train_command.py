"""se_train as a user meets it: settings, exit codes, signals."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from configs.training import TrainingConfig, load_training_config
from trainers.cli import main

TINY = ["--network", "baseline", "--iterations", "4", "--workers", "0", "--device", "cpu", "--set", "validation_iterations=1"]


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["se_train", *map(str, arguments)])
    return main()


def test_options_and_set_override_the_preset(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--preset", "quick", "--epochs", "1", "--lr", "0.1", "--batch-size", "1", "--seed", "7"]
    assert (
        command(monkeypatch, "Balls", "--work", work, *options, *TINY, "momentum=0.8", "augment_scale=false", "base_features=2")
        == 0
    )
    fold = Path(capsys.readouterr().out.strip())
    given = {"epochs": 1, "iterations": 4, "learning_rate": 0.1, "batch_size": 1, "seed": 7, "workers": 0}
    given |= {"momentum": 0.8, "augment_scale": False, "base_features": 2, "validation_iterations": 1}
    expected = load_training_config("quick", given)
    assert TrainingConfig.read(fold.parent / "training.json") == expected


def test_wrong_settings_are_all_listed(work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ["--network", "baseline", "--epochs", "0", "--set", "momentums=0.8", "optimiser=magic"]
    assert command(monkeypatch, "Balls", "--work", work, *wrong) == 2
    printed = capsys.readouterr().err
    assert "3 faults" in printed
    assert all(f"setting `{name}`" in printed for name in ("epochs", "momentums", "optimiser"))


def test_set_needs_a_value(work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(monkeypatch, "Balls", "--work", work, "--network", "baseline", "--set", "momentum") == 2
    assert "not in the form KEY=VALUE" in capsys.readouterr().err


@pytest.mark.parametrize("fold", ["9", "all_of_them"])
def test_wrong_folds(work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fold: str) -> None:
    if fold == "9":
        assert command(monkeypatch, "Balls", "--work", work, "--fold", fold, *TINY) == 2
    else:
        with pytest.raises(SystemExit):
            command(monkeypatch, "Balls", "--work", work, "--fold", fold, *TINY)
    assert "fold" in capsys.readouterr().err


def start(work: Path, *arguments: str) -> subprocess.Popen[str]:
    source = "import sys; from trainers.cli import main; sys.argv[0] = 'se_train'; sys.exit(main())"
    line = [sys.executable, "-c", source, "Balls", "--work", str(work), *arguments]
    return subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


def test_sigterm_saves_and_resume_ends_as_if_unbroken(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    endless = ["--epochs", "400", *TINY]
    process = start(work, *endless)
    fold = work / "Balls" / "models" / "3d_fullres_baseline" / "fold_0"
    deadline = time.monotonic() + 60
    while not (fold / "log.csv").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "SIGTERM received" in printed
    assert f"Go on with: se_train Balls --work {work}" in printed
    assert "--resume" in printed
    assert "Traceback" not in printed
    done = len(pd.read_csv(fold / "log.csv"))
    assert not (fold / "weights_final.safetensors").exists()
    until = str(done + 2)
    assert command(monkeypatch, "Balls", "--work", work, "--network", "baseline", "--resume", "--epochs", until) == 0
    assert pd.read_csv(fold / "log.csv")["epoch"].tolist() == list(range(1, done + 3))
    assert (
        load_file(fold / "weights_final.safetensors").keys()
        == torch.load(fold / "checkpoint_latest.pt", weights_only=True)["network"].keys()
    )
