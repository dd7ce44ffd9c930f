"""What a folder of segmentations was made with, kept beside them."""

from configs.dataset import DatasetDescription
from configs.files import Value
from inference.predictor import Predictor

FILE = "prediction.json"


class PredictionRecord(Value):
    """Written as `prediction.json`; it also tells se_evaluate what the label values mean.

    Attributes:
        model: folder of the model.
        folds: whose probabilities were averaged.
        checkpoint: `final` or `best`.
        scales: factors that were averaged.
        mirror_axes: of (Z, Y, X) = (0, 1, 2), over whose reflections was averaged.
        step: of the sliding window, as a share of the patch.
        dataset: channels and labels.
    """

    model: str
    folds: tuple[str, ...]
    checkpoint: str
    scales: tuple[float, ...]
    mirror_axes: tuple[int, ...]
    step: float
    dataset: DatasetDescription


def record_of(predictor: Predictor, model: str, checkpoint: str) -> PredictionRecord:
    """The record of a predictor that was loaded from the folder `model`."""
    plan, options = predictor.model.network_plan, predictor.options
    return PredictionRecord(
        model=model,
        folds=tuple(predictor.model.networks),
        checkpoint=checkpoint,
        scales=plan.test_scales if options.scales is None else options.scales,
        mirror_axes=plan.mirror_axes if options.mirror else (),
        step=options.step,
        dataset=predictor.description,
    )
