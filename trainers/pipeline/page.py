"""The page of a run, which links to all of its results."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from configs.files import write_text
from configs.folders import DatasetFolder, RunRecords
from inference.evaluation.scores import EvaluationResult
from inference.evaluation.validated import read_scores
from inference.prediction.selection import Selection
from inference.report.run import MODEL_PAGE, OVERVIEW_PAGE
from planners.report.page import FILE as PLANNING_PAGE
from preprocessing.pages.rendering import page_environment
from trainers.monitoring.progress_note import duration
from trainers.pipeline.schedule import Schedule, Training


def write_run_page(
    folder: DatasetFolder,
    schedule: Schedule,
    failures: Mapping[str, str],
    model: Path,
    selection: Selection | None,
    bundles: Sequence[Path],
) -> Path:
    """Write the page of a run into the dataset's folder under WORK, and return its path.

    `model` is the folder of the model to predict with where there is no selection.
    """
    rows = [_row(folder, training, failures) for training in schedule.trainings]
    models = dict.fromkeys(training.model for training in schedule.trainings)
    links = {
        "planning": _link(folder, folder.path / PLANNING_PAGE),
        "overview": _link(folder, folder.path / OVERVIEW_PAGE),
        "models": {name: _link(folder, folder.models_folder / name / MODEL_PAGE) for name in models},
        "bundles": [_link(folder, bundle) for bundle in bundles],
        "logs": _link(folder, folder.path / "logs"),
    }
    of_model = ["se_predict", "-i", "INPUT", "-o", "OUTPUT", "-m", str(model.resolve())]
    chosen = [] if selection is None else [Path(model).name for model in selection.models]
    environment = page_environment("trainers.pipeline")
    environment.filters["duration"] = duration
    text = environment.get_template("run.html.j2").render(
        name=folder.path.name,
        schedule=schedule,
        rows=rows,
        links=links,
        selection=selection,
        command=shlex.join(of_model) if selection is None else selection.command,
        chosen=chosen,
        failures=failures,
    )
    write_text(RunRecords(folder.path).page, text)
    return RunRecords(folder.path).page


def _row(folder: DatasetFolder, training: Training, failures: Mapping[str, str]) -> dict[str, Any]:
    fold = folder.model(training.configuration, training.network).fold(training.fold)
    scores: EvaluationResult | None = read_scores(fold) if fold.validation.metrics.is_file() else None
    return {
        "training": training,
        "failure": failures.get(str(training)),
        "dice": None if scores is None else scores.mean_foreground_dice,
        "cases": 0 if scores is None else len(scores.cases),
        "curves": _link(folder, fold.records.picture),
    }


def _link(folder: DatasetFolder, target: Path) -> str | None:
    """Return the address of a file relative to the page; None if there is none."""
    return quote(Path(os.path.relpath(target, folder.path)).as_posix()) if target.exists() else None
