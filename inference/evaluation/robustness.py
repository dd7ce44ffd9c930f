"""Measure how a model's Dice changes with the size of the anatomy, on enlarged and shrunken validation cases.

Image and labels are resampled to another number of voxels and keep their nominal spacing: everything in them is larger or smaller by
the factor, nothing is added around, and the resolution seems unchanged. Images are low-pass filtered before they shrink; they cannot
gain detail when they grow.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from configs.dataset import DatasetDescription
from configs.errors import Fault, InputError, collecting, raise_faults
from configs.files import Value
from configs.folders import ALL, ModelFolder
from configs.plan import ModelPlan
from configs.progress import Progress, Silent
from inference.engine.scaling import scale_image, scaled_shape
from inference.evaluation.scores import score_case
from inference.model import Model, load_model, weights_digests
from inference.options import PredictionOptions
from inference.predictor import Predictor
from preprocessing.dataset.fold_record import held_out_cases
from preprocessing.dataset.labels import to_class_indices
from preprocessing.formats.images import read_image, read_labels
from preprocessing.geometry.affine import Geometry
from preprocessing.geometry.cropping import nonzero_mask
from preprocessing.geometry.same_grid import require_same_grid
from preprocessing.resample import resample_labels
from preprocessing.store import CaseStore
from preprocessing.tables import write_table

Ensemble = tuple[float, ...] | Literal["search", "confidence"]  # earlier versions weighed scales by confidence
SEARCH: Literal["search"] = "search"


class RobustnessPoint(Value):
    """Dice at one factor."""

    scale: float  # factor of the anatomy's size
    ensemble: Ensemble  # scale factors that the prediction averaged over, or `search`
    mean_foreground_dice: float | None  # mean over labels of each label's mean over cases; None if no label occurs
    dice: dict[str, float | None]  # mean over the cases in which it is defined, or None, by label
    cases: int  # number of cases


class RobustnessResult(Value):
    """Scale robustness of a model: one point for each factor and ensemble."""

    model: str
    points: tuple[RobustnessPoint, ...]
    networks: dict[str, str] = Field(default_factory=dict)  # SHA-256 of the network's weights by fold, where they are recorded

    def write_csv(self, path: Path) -> None:
        """Write a row for each point atomically; undefined scores are empty."""
        labels = list(self.points[0].dice) if self.points else []
        write_table(
            path,
            ["scale", "ensemble", "mean_foreground_dice", *labels, "cases"],
            [[one.scale, words_of(one.ensemble), one.mean_foreground_dice, *one.dice.values(), one.cases] for one in self.points],
        )


@dataclass(frozen=True)
class ValidationCase:
    """A validation case on the grid of its files."""

    identifier: str  # case identifier
    fold: str  # fold that did not train on the case
    image: NDArray[np.float32]  # image (C, Z, Y, X) float32
    indices: NDArray[np.int16]  # class indices (Z, Y, X)
    geometry: Geometry  # geometry shared by image and indices
    annotated: tuple[str, ...] | None = None  # labels that were annotated; None for all


@dataclass(frozen=True)
class HeldOut:
    """A model's folds, each evaluated on the cases that it did not train on."""

    model_folder: Path  # model folder in WORK/<dataset>/models, from which splits and cases are found
    folds: Sequence[int | str] | None = None  # folds to evaluate; None takes all trained ones
    checkpoint: str = "final"  # `final` or `best`
    device: torch.device | str | None = None  # device of the networks; None takes the best available
    mirror: bool = True  # whether to average over reflections
    limit: int | None = None  # maximum number of cases per fold; None takes all

    def load(self) -> Model:
        """Load all folds, or raise `InputError` if the model cannot be loaded."""
        return load_model(self.model_folder, self.folds, self.checkpoint)

    def cases_of(self, model: Model) -> dict[str, list[str]]:
        """Return the cases to evaluate each loaded fold on; raises `InputError` with the faults of all folds."""
        faults, cases = list[Fault](), dict[str, list[str]]()
        for fold in self._with_held_out(model):
            with collecting(faults):
                cases[fold] = validation_cases(self.model_folder, fold)[: self.limit]
        raise_faults(faults)
        return cases

    def _with_held_out(self, model: Model) -> list[str]:
        """Return the loaded folds; fold `all`, which knows every case, is left out unless it is named or the only one."""
        numbered = [fold for fold in model.networks if fold != ALL]
        return numbered if self.folds is None and numbered else list(model.networks)

    def predictor(self, whole: Model, fold: str, ensemble: Ensemble) -> Predictor:
        """Return a predictor of one fold with this scale ensemble; predictors share weights."""
        return Predictor(
            Model(whole.plan, {fold: whole.networks[fold]}, whole.calibration),
            self.device,
            ensemble_options(ensemble, self.mirror),
        )


def scale_robustness(
    held_out: HeldOut,
    scales: Sequence[float],
    ensembles: Sequence[Ensemble] = ((1.0,),),
    progress: Progress | None = None,
) -> RobustnessResult:
    """Predict a model's validation cases at several sizes of the anatomy, each by the fold that did not train on it.

    Every ensemble is a tuple of scale factors, (1.0,) being a single scale; or `search`, the search of the size in each image.

    Raises:
        InputError: the model, its splits or its cases are missing.
        ValueError: a factor is out of range.
    """
    whole = held_out.load()
    names = held_out.cases_of(whole)
    predictors = {fold: [held_out.predictor(whole, fold, ensemble) for ensemble in ensembles] for fold in names}
    description = whole.plan.dataset
    total = sum(len(cases) for cases in names.values()) * len(scales) * len(ensembles)
    found: dict[tuple[float, int], list[dict[str, float | None]]] = {}
    work = _work(held_out.model_folder, names, scales, len(ensembles))
    for case, factor, way in (progress or Silent()).track(work, "Predicting at several sizes", total):
        image, indices, geometry = rescale(case, factor)
        answer = predictors[case.fold][way].segment(image, geometry, where=f"case `{case.identifier}`").labels
        scores = score_case(answer, stored_values(indices, description), description, geometry.spacing, annotated=case.annotated)
        found.setdefault((factor, way), []).append({label: one.dice for label, one in scores.items()})
    points = [_point(factor, ensembles[way], dice) for (factor, way), dice in sorted(found.items())]
    networks = weights_digests(held_out.model_folder, list(names), held_out.checkpoint)
    return RobustnessResult(model=str(held_out.model_folder), points=tuple(points), networks=networks)


def rescale(case: ValidationCase, factor: float) -> tuple[NDArray[np.float32], NDArray[np.int16], Geometry]:
    """Return image, class indices and geometry of the anatomy enlarged by `factor` at the same spacing.

    Zeros around the anatomy, as around an extracted brain, stay exactly 0, because preprocessing crops and normalises by them; splines
    alone would leave ripples there.

    Raises:
        ValueError: the factor is not positive.
    """
    shape = scaled_shape(case.geometry.shape, factor)
    if shape == case.geometry.shape:
        return case.image, case.indices, case.geometry
    resized = scale_image(torch.from_numpy(np.array(case.image)), shape)
    low, high = (torch.from_numpy(end(case.image, axis=(1, 2, 3), keepdims=True)) for end in (np.min, np.max))
    clamped = resized.clamp(low, high).numpy()
    clamped *= resample_labels(nonzero_mask(case.image).astype(np.int16), shape)
    return clamped, resample_labels(case.indices, shape), Geometry.from_affine(shape, case.geometry.affine)


def validation_cases(model_folder: Path, fold: str) -> list[str]:
    """Return the cases that a fold did not see in training, see `held_out_cases`."""
    return list(held_out_cases(ModelFolder(model_folder).fold(fold)))


def load_validation_case(model_folder: Path, plan: ModelPlan, fold: str, identifier: str) -> ValidationCase:
    """Load a validation case from its original files.

    Raises:
        InputError: files are missing or cannot be used.
    """
    store = CaseStore(ModelFolder(model_folder).dataset.prepared(plan))
    properties = store.read(identifier).properties
    if properties.labels is None:
        raise InputError(Fault(f"case `{identifier}`", "no label file", "Add one and run se_plan_and_preprocess again"))
    image, geometry = read_image([Path(path) for path in properties.images])
    labels, grid = read_labels(Path(properties.labels))
    require_same_grid(f"case `{identifier}`", f"the label file {properties.labels}", grid, geometry)
    return ValidationCase(identifier, fold, image, to_class_indices(labels, plan.dataset), geometry, properties.annotated)


def stored_values(indices: NDArray[np.int16], description: DatasetDescription) -> NDArray[np.int32]:
    """Convert class indices to label values as stored in files."""
    ignored = [] if description.ignore_value is None else [description.ignore_value]
    return np.array([*description.values, *ignored], dtype=np.int32)[indices]


def ensemble_options(ensemble: Ensemble, mirror: bool) -> PredictionOptions:
    """Return the options of a prediction with this scale ensemble."""
    if ensemble == "confidence":
        raise ValueError("scales are no longer weighed by confidence; search the size instead")
    if ensemble == SEARCH:
        return PredictionOptions(mirror=mirror, search="always")
    return PredictionOptions(mirror=mirror, scales=ensemble)


def words_of(ensemble: Ensemble) -> str:
    """Return a scale ensemble in words."""
    return ensemble if isinstance(ensemble, str) else " ".join(f"{factor:g}" for factor in ensemble)


def _work(
    folder: Path, names: dict[str, list[str]], scales: Sequence[float], ways: int
) -> Iterator[tuple[ValidationCase, float, int]]:
    plan = ModelPlan.read(ModelFolder(folder).plan)
    for fold, cases in names.items():
        for name in cases:
            case = load_validation_case(folder, plan, fold, name)
            for factor in scales:
                for way in range(ways):
                    yield case, factor, way


def _point(factor: float, ensemble: Ensemble, cases: list[dict[str, float | None]]) -> RobustnessPoint:
    labels = dict.fromkeys(label for case in cases for label in case)
    dice = {label: _mean([case[label] for case in cases if label in case]) for label in labels}
    mean = _mean(list(dice.values()))
    return RobustnessPoint(scale=factor, ensemble=ensemble, mean_foreground_dice=mean, dice=dice, cases=len(cases))


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return math.fsum(defined) / len(defined) if defined else None
