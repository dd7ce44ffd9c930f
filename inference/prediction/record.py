"""Record how a folder of segmentations was made, beside them, so that work is only continued with the same models and options."""

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from configs.dataset import DatasetDescription
from configs.errors import Fault, InputError
from configs.files import Value
from configs.plan import Average
from configs.run_log import digest
from inference.cascade import find_first_stage
from inference.model import Model, weights_digests
from inference.options import PredictionOptions, Variants, average_of, searches
from inference.prediction.outputs import Extras
from inference.prediction.postprocessing import Postprocessing
from inference.predictor import Predictor
from preprocessing.formats.registry import images_in

logger = logging.getLogger(__name__)
FILE = "prediction.json"
_OPTIONS = ("folds", "search", "scales", "scale_weights", "mirror_axes")


class ModelRecord(Value):
    """Record of one model."""

    model: str  # path to the model folder
    folds: tuple[str, ...]  # folds that were averaged
    search: bool = False  # whether the size of the anatomy was searched in each image
    scales: tuple[float, ...]  # scale factors that were averaged, where it was not
    scale_weights: tuple[float, ...] | None  # weights of the scales, summing to 1; None in records of former searches
    mirror_axes: tuple[int, ...]  # axes over whose reflections predictions were averaged, indices into (Z, Y, X)
    weights: dict[str, str] | None = None  # SHA-256 of the weights of each fold; None in records of earlier versions
    plan: str | None = None  # SHA-256 of what the plan states; None in records of earlier versions

    def differences(self, now: "ModelRecord") -> list[str]:
        """Return in words what differs from another record; a model that was only moved is the same."""
        is_known = None not in (self.weights, now.weights)
        found = _changes(self, now, _OPTIONS if is_known else ("model", *_OPTIONS))
        if is_known and self.weights != now.weights and self.folds == now.folds:
            found.append(f"the weights of {now.model} are not those of {self.model} at that time")
        if is_known and self.plan != now.plan:
            found.append(f"the plan of {now.model} is not that of {self.model} at that time")
        return found


class PredictionRecord(Value):
    """Content of `prediction.json`, which also tells se_evaluate what the label values mean."""

    models: tuple[ModelRecord, ...]  # models that were averaged
    checkpoint: str  # `final` or `best`
    step: float  # step of the sliding window, as a share of the patch
    average: Average  # quantity that was averaged, probabilities or logits
    roi: tuple[str, ...] | None = None  # labels that were kept; None for all
    postprocessing: Postprocessing = Postprocessing()  # rules that were applied
    dataset: DatasetDescription  # dataset description with channels and labels
    first_stage: ModelRecord | None = None  # first model of a cascade, or None
    older: dict[str, str] = Field(default_factory=dict)  # file name -> SHA-256 of segmentations that were made otherwise before

    def differences(self, now: "PredictionRecord") -> list[str]:
        """Return in words what differs from another record and changes segmentations."""
        found = _changes(self, now, ("checkpoint", "step", "average", "roi", "postprocessing"))
        found += _changes(self.dataset, now.dataset, ("channels", "labels", "regions_class_order"))
        if len(self.models) != len(now.models) or (self.first_stage is None) != (now.first_stage is None):
            return [*found, f"the models were {_names(self)}, now {_names(now)}"]
        pairs = [*zip(self.models, now.models, strict=True)]
        pairs += [(self.first_stage, now.first_stage)] if self.first_stage is not None and now.first_stage is not None else []
        return found + [words for before, after in pairs for words in before.differences(after)]

    def digest(self) -> str:
        """Return the SHA-256 of the plans and weights of all models, wherever these lie."""
        models = [*self.models, *([self.first_stage] if self.first_stage is not None else [])]
        stated = json.dumps([[one.plan, one.weights] for one in models], sort_keys=True)
        return hashlib.sha256(stated.encode()).hexdigest()

    def is_of_these(self, segmentation: Path) -> bool:
        """Return whether a segmentation exists and was not made otherwise before."""
        if not segmentation.is_file():
            return False
        known = self.older.get(segmentation.name)
        return known is None or digest(segmentation) != known


def record_of(predictor: Predictor, folders: Sequence[Path], checkpoint: str, extras: Extras) -> PredictionRecord:
    """Return the record of a predictor that was loaded from these folders; they are recorded as absolute paths."""
    first = find_first_stage(predictor.models, folders)
    stage = predictor.first_stage
    return PredictionRecord(
        models=tuple(
            _record_model(model, folder, checkpoint, predictor.options)
            for model, folder in zip(predictor.models, folders, strict=True)
        ),
        checkpoint=checkpoint,
        step=predictor.options.step,
        average=average_of(predictor.models, predictor.options),
        roi=extras.roi,
        postprocessing=extras.postprocessing,
        dataset=predictor.description,
        first_stage=None if first is None or stage is None else _record_model(stage.models[0], first, checkpoint, stage.options),
    )


def in_folder(now: PredictionRecord, folder: Path, continues: bool) -> PredictionRecord:
    """Return this run's record for a folder of segmentations, which names those that were made otherwise before.

    If the run `continues`, segmentations that are there are kept.

    Raises:
        InputError: the run continues what other models or options made, or the folder's record cannot be read.
    """
    path = folder / FILE
    before = PredictionRecord.read(path) if path.is_file() else None
    if before is None and continues:
        if _segmentations(folder):
            message = "%s has no %s, so segmentations there are taken for those of the same models and options"
            logger.warning(message, folder, FILE)
        return now
    differences = [] if before is None else before.differences(now)
    if before is not None and not differences:
        return now.model_copy(update={"older": before.older})
    if continues:
        raise InputError(Fault(str(path), f"the segmentations there were made otherwise: {'; '.join(differences)}", _REMEDY))
    return now.model_copy(update={"older": {file.name: digest(file) for file in _segmentations(folder)}})


_REMEDY = "Continue with the same models and options, choose another folder, or leave out --continue to segment all cases again"


def _segmentations(folder: Path) -> list[Path]:
    return [path for path in images_in(folder) if path.is_file()] if folder.is_dir() else []


def _record_model(model: Model, folder: Path, checkpoint: str, options: PredictionOptions) -> ModelRecord:
    variants, folds = Variants.of(options), tuple(model.networks)
    stated = model.plan.whole.model_dump_json(exclude_defaults=True)
    return ModelRecord(
        model=str(folder.resolve()),
        folds=folds,
        search=searches(model, options),
        scales=variants.scales,
        scale_weights=variants.shares,
        mirror_axes=model.plan.network.mirror_axes if variants.mirror else (),
        weights=weights_digests(folder, folds, checkpoint),
        plan=hashlib.sha256(stated.encode()).hexdigest(),
    )


def _changes(before: Value, now: Value, names: Sequence[str]) -> list[str]:
    pairs = [(name, getattr(before, name), getattr(now, name)) for name in names]
    return [f"{name.replace('_', ' ')} was {_short(old)}, now {_short(new)}" for name, old, new in pairs if old != new]


def _short(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _names(record: PredictionRecord) -> str:
    return " and ".join(Path(model.model).name for model in record.models)
