"""Record how a folder of segmentations was made, beside them."""

from collections.abc import Sequence
from pathlib import Path

from configs.dataset import DatasetDescription
from configs.files import Value
from inference.options import Average, choose_variants
from inference.prediction.outputs import Extras
from inference.prediction.postprocessing import Postprocessing
from inference.predictor import Predictor

FILE = "prediction.json"


class ModelRecord(Value):
    """Record of one model."""

    model: str  # path to the model folder
    folds: tuple[str, ...]  # folds that were averaged
    scales: tuple[float, ...]  # scale factors that were averaged
    scale_weights: tuple[float, ...] | None  # weights of the scales, summing to 1; None if each image has its own
    mirror_axes: tuple[int, ...]  # axes over whose reflections predictions were averaged, indices into (Z, Y, X)


class PredictionRecord(Value):
    """Content of `prediction.json`, which also tells se_evaluate what the label values mean."""

    models: tuple[ModelRecord, ...]  # models that were averaged
    checkpoint: str  # `final` or `best`
    step: float  # step of the sliding window, as a share of the patch
    average: Average  # quantity that was averaged, probabilities or logits
    roi: tuple[str, ...] | None = None  # labels that were kept; None for all
    postprocessing: Postprocessing = Postprocessing()  # rules that were applied
    dataset: DatasetDescription  # dataset description with channels and labels


def record_of(predictor: Predictor, folders: Sequence[Path], checkpoint: str, extras: Extras) -> PredictionRecord:
    """Return the record of a predictor that was loaded from these folders; they are recorded as absolute paths."""
    models = []
    for model, folder in zip(predictor.models, folders, strict=True):
        variants = choose_variants(model, predictor.options)
        models.append(
            ModelRecord(
                model=str(folder.resolve()),
                folds=tuple(model.networks),
                scales=variants.scales,
                scale_weights=None if variants.by_confidence else variants.shares,
                mirror_axes=model.plan.network.mirror_axes if variants.mirror else (),
            )
        )
    return PredictionRecord(
        models=tuple(models),
        checkpoint=checkpoint,
        step=predictor.options.step,
        average=predictor.options.average,
        roi=extras.roi,
        postprocessing=extras.postprocessing,
        dataset=predictor.description,
    )
