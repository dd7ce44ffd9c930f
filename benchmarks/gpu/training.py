"""Real trainings: hippocampus for some minutes, and one training shared by two GPUs."""

import shlex
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

import planners.cli
import trainers.cli
from benchmarks.gpu.setting import FAMILIES, Result, Setting, SkippedError
from configs.files import read_json

NEEDED = ("nibabel", "batchgenerators")
STEPS = 250  # of an epoch
EPOCHS = 8
DICE = 0.8  # of validation cases, which a short training must reach


def hippocampus(setting: Setting) -> Result:
    """Train both networks on fold 0 with the planned features, and validate."""
    work = _planned(setting)
    result = Result()
    for family in FAMILIES:
        epochs, steps = (EPOCHS, STEPS) if setting.is_real else (1, 2)
        words = ["--network", family, "--preset", "quick", "--epochs", epochs, "--iterations", steps, "--resume", "--quiet"]
        if not setting.is_real:
            words += ["--set", "base_features=4", "compile=off", "--tag", "trial"]
        run(trainers.cli.main, setting.data, "--work", work, *words, "--device", setting.device)
        model = f"3d_fullres_{family}" if setting.is_real else f"3d_fullres_{family}_trial"
        fold = work / setting.data.name / "models" / model / "fold_0"
        metrics: dict[str, Any] = read_json(fold / "validation/metrics.json")
        dice = float(metrics["mean_foreground_dice"] or 0)
        result.figures.append({"network": family, "epochs": epochs, "steps": epochs * steps, "dice": dice})
        if setting.is_real:
            result.check(f"{family}: Dice below 1 by", 1 - dice, 1 - DICE)
    return result


def two_processes(setting: Setting) -> Result:
    """Share a training between two GPUs by nccl."""
    if setting.device.type != "cuda" or torch.cuda.device_count() < 2:
        raise SkippedError("there are not two GPUs")
    work = _planned(setting)
    words = ["--network", "se", "--tag", "shared", "--preset", "quick", "--epochs", 1, "--iterations", 20, "--resume", "--quiet"]
    subprocess.run(
        [sys.executable, "-m", "trainers.cli", *map(str, (setting.data, "--work", work, *words, "--num-gpus", 2))], check=True
    )
    return Result([{"check": "a training shared by two GPUs ends", "holds": True, "value": 0.0, "limit": 0.0}])


def run(main: Callable[[], int], *words: object) -> None:
    """Run a command in this process.

    Raises:
        RuntimeError: it fails.
    """
    before = sys.argv
    sys.argv = ["check", *map(str, words)]
    try:
        with redirect_stdout(sys.stderr):
            code = main()
    finally:
        sys.argv = before
    if code:
        raise RuntimeError(f"the command ended with {code}: {shlex.join(map(str, words))}")


def _planned(setting: Setting) -> Path:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise SkippedError(f"{', '.join(missing)} must be installed, as by benchmarks/gpu/parcel.py")
    if not setting.data.is_dir():
        raise SkippedError(f"there is no dataset {setting.data}")
    work = setting.folder / "work"
    if not (work / setting.data.name / "plan.json").is_file():
        run(planners.cli.main, setting.data, "--work", work, "--configurations", "3d_fullres", "--quiet")
    return work
