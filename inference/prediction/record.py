"""What a folder of segmentations was made with, kept beside them."""

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
    """One of the models.

    Attributes:
        model: its folder.
        folds: that were averaged.
        scales: factors that were averaged.
        scale_weights: of these, adding up to 1; None where each image has its own.
        mirror_axes: of (Z, Y, X) = (0, 1, 2), over whose reflections was averaged.
    """

    model: str
    folds: tuple[str, ...]
    scales: tuple[float, ...]
    scale_weights: tuple[float, ...] | None
    mirror_axes: tuple[int, ...]


class PredictionRecord(Value):
    """Written as `prediction.json`; it also tells se_evaluate what the label values mean.

    Attributes:
        models: that were averaged.
        checkpoint: `final` or `best`.
        step: of the sliding window, as a share of the patch.
        average: of what the mean was taken.
        roi: labels that were kept; None for all.
        postprocessing: pieces that were taken away.
        dataset: channels and labels.
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
