"""Segmentation of files on a Dask cluster: each worker loads the models once and takes one case after the other."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from configs.errors import InputError
from configs.progress import Progress, Silent
from inference.options import PredictionOptions
from inference.prediction.outputs import Extras
from inference.prediction.predict_files import predict_cases
from inference.predictor import Predictor
from preprocessing.parallel.for_each_case import for_each_case


@dataclass(frozen=True)
class Recipe:
    """Enough to load the same predictor anywhere. Attributes as of `Predictor.load`; workers must see the folders."""

    folders: tuple[str, ...]
    device: str | None
    folds: tuple[str, ...] | None
    checkpoint: str
    options: PredictionOptions


@dataclass(frozen=True)
class _Task:
    files: tuple[Path, ...]
    output: Path


def predict_on_cluster(
    recipe: Recipe,
    cases: Mapping[str, tuple[Path, ...]],
    outputs: Mapping[str, Path],
    extras: Extras,
    scheduler: str,
    progress: Progress | None = None,
) -> dict[str, Exception]:
    """As `predict_cases`, on the workers of a Dask scheduler.

    Args:
        recipe: of the predictor.
        cases, outputs, extras, progress: as there. Paths must lead to the same files on every worker.
        scheduler: its address.

    Returns:
        The cases that failed, with the reason of each.

    Raises:
        InputError: the scheduler cannot be reached.
        RuntimeError: workers were killed; the cases that are unfinished are named.
    """
    tasks = {case: _Task(tuple(file.resolve() for file in files), outputs[case].resolve()) for case, files in cases.items()}
    work = partial(_segment, recipe=recipe, extras=extras)
    found = dict(for_each_case(work, tasks, 1, progress or Silent(), "Segmenting", scheduler))
    return {case: error for case in cases if (error := found.get(case)) is not None}


def _segment(case: str, task: _Task, recipe: Recipe, extras: Extras) -> Exception | None:
    error = predict_cases(_load(recipe), {case: task.files}, {case: task.output}, extras).get(case)
    if error is None or isinstance(error, InputError):
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")  # not every error survives the way between processes


@lru_cache(maxsize=1)
def _load(recipe: Recipe) -> Predictor:
    return Predictor.load(recipe.folders, recipe.device, recipe.folds, recipe.checkpoint, recipe.options)
