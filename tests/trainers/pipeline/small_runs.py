"""Runs of seconds from a dataset to a model, for the tests."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from configs.run_log import FOLDER as LOGS
from planners.options import PlanningOptions
from tests.preprocessing.datasets import make_dataset
from trainers import RunOptions, run_dataset
from trainers.monitoring.history import History
from trainers.pipeline.run import RunResult

PLANNING = PlanningOptions(networks=("baseline",), configurations=("3d_fullres",), patch_size=(8, 8, 8))
SETTINGS = {"epochs": 2, "iterations": 2, "validation_iterations": 1, "workers": 0, "base_features": 2, "batch_size": 1}
OPTIONS: Mapping[str, Any] = {"preset": "quick", "settings": SETTINGS, "folds": (0, 1), "jobs": 1}
_VARYING = {
    "logs",
    "checkpoint_latest.pt",
    "log.csv",
    "progress.png",
    "index.html",
    "schedule.json",
    "report.html",
    "models.html",
}


def dataset(folder: Path) -> Path:
    """A dataset of four tiny cases."""
    return make_dataset(folder / "data", cases=4)


def run(data: Path, work: Path, planning: PlanningOptions | None = PLANNING, **changes: Any) -> RunResult:
    """Run it on the CPU with one thread, without pictures: drawing takes longer than all the rest."""
    torch.set_num_threads(1)
    with patch.object(History, "write_picture", lambda history, path: path.write_bytes(b"")):
        options = RunOptions(**{**OPTIONS, "devices": ("cpu",), **changes})
        return run_dataset(data, work, options, planning)


def lasting_files(work: Path) -> dict[str, bytes]:
    """The bytes of all files that do not tell of times; folders of prepared arrays are files of blosc2."""
    found = {path.relative_to(work).as_posix(): path for path in sorted(work.rglob("*")) if path.is_file()}
    kept = {name: path for name, path in found.items() if not _VARYING & set(name.split("/")) and LOGS not in name}
    place = str(work.resolve()).encode()
    return {name: path.read_bytes().replace(place, b"WORK") for name, path in kept.items()}
