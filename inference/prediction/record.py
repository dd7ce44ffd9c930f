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
    """Record of one model.

    Attributes:
        model: path to the model folder.
        folds: folds that were averaged.
        scales: scale factors that were averaged.
        scale_weights: weights of the scales, summing to 1; None if each image has its own.
        mirror_axes: axes over whose reflections predictions were averaged, indices into (Z, Y, X).
    """

    model: str
    folds: tuple[str, ...]
    scales: tuple[float, ...]
    scale_weights: tuple[float, ...] | None
    mirror_axes: tuple[int, ...]


class PredictionRecord(Value):
    """Content of `prediction.json`, which also tells se_evaluate what the label values mean.

    Attributes:
        models: models that were averaged.
        checkpoint: `final` or `best`.
        step: step of the sliding window, as a share of the patch.
        average: quantity that was averaged, probabilities or logits.
        roi: labels that were kept; None for all.
        postprocessing: rules that were applied.
        dataset: dataset description with channels and labels.
    """

    models: tuple[ModelRecord, ...]
    checkpoint: str
    step: float
    average: Average
    roi: tuple[str, ...] | None = None
    postprocessing: Postprocessing = Postprocessing()
    dataset: DatasetDescription


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
