"""What programs share that train by the commands: running them, and a row of a table over seeds."""

import subprocess
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

from configs.folders import DatasetFolder
from inference.evaluation.scores import EvaluationResult

ITERATIONS = 50  # of an epoch
SPREAD = {"steps": "{}", "seeds": "{}", "mean_dice": "{:.3f}", "lowest": "{:.3f}", "highest": "{:.3f}"}  # columns of `spread`


def spread(steps: int, dice: list[float]) -> dict[str, Any]:
    """Return the length of trainings, and mean and extremes of their Dice over the seeds."""
    return {"steps": steps, "seeds": len(dice), "mean_dice": fmean(dice), "lowest": min(dice), "highest": max(dice)}


def run(command: str, *words: object) -> None:
    """Run a command of this environment to its end."""
    subprocess.run([str(Path(sys.executable).with_name(command)), *map(str, words)], check=True)


def trained(
    planned: DatasetFolder, network: str, tag: str, preset: str, steps: int, seed: int, *more: object
) -> EvaluationResult:
    """Train fold 0 of a planned dataset with `se_train` unless that is done, and return the scores of its validation cases."""
    fold = planned.model("3d_fullres", network, tag).fold(0)
    if not fold.validation.metrics.is_file():
        words = [planned.path.name, "--work", planned.path.parent, "--network", network, "--tag", tag, "--preset", preset]
        words += ["--epochs", steps // ITERATIONS, "--iterations", ITERATIONS, "--seed", seed, "--workers", 0]
        run("se_train", *words, "--restart", "--quiet", *more)
    return EvaluationResult.read(fold.validation.metrics)


def link(path: Path, target: Path) -> None:
    """Make a link unless it is there."""
    if not path.exists():
        path.symlink_to(target.resolve())
