"""Segment files on a Dask cluster, where each worker loads the models once and takes one case after another."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

from configs.errors import InputError
from configs.progress import Progress, Silent
from inference.options import PredictionOptions
from inference.prediction.command import ModelChoice
from inference.prediction.outputs import Extras
from inference.prediction.predict_files import predict_cases
from inference.predictor import Predictor
from preprocessing.parallel.for_each_case import for_each_case


@dataclass(frozen=True)
class _Task:
    files: tuple[Path, ...]
    output: Path


def predict_on_cluster(
    models: ModelChoice,
    options: PredictionOptions,
    cases: Mapping[str, tuple[Path, ...]],
    outputs: Mapping[str, Path],
    extras: Extras,
    scheduler: str,
    progress: Progress | None = None,
) -> dict[str, Exception]:
    """Segment files as `predict_cases` does, on the workers of a Dask scheduler. Workers must see all files by the same paths.

    Returns:
        The cases that failed, each with its error.

    Raises:
        InputError: the scheduler cannot be reached.
        RuntimeError: workers were killed; the cases that are unfinished are named.
    """
    tasks = {case: _Task(tuple(file.resolve() for file in files), outputs[case].resolve()) for case, files in cases.items()}
    models = replace(models, folders=tuple(folder.resolve() for folder in models.folders))
    work = partial(_segment, models=models, options=options, extras=extras)
    found = dict(for_each_case(work, tasks, 1, progress or Silent(), "Segmenting", scheduler))
    return {case: error for case in cases if (error := found.get(case)) is not None}


def _segment(case: str, task: _Task, models: ModelChoice, options: PredictionOptions, extras: Extras) -> Exception | None:
    error = predict_cases(_load(models, options), {case: task.files}, {case: task.output}, extras).get(case)
    if error is None or isinstance(error, InputError):
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")  # not every error survives the way between processes


@lru_cache(maxsize=1)
def _load(models: ModelChoice, options: PredictionOptions) -> Predictor:
    return models.load(options)
