"""Plan and weights to segmentation: sliding window, test-time ensembling, metrics. Never imports a trainer.

`Predictor.load(model_folder)(image, spacing)` segments one image in memory, `predict_cases` segments files, `evaluate` compares
folders. These names are imported when first used, so that the commands can answer `--help` at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inference.evaluation.evaluate import evaluate
    from inference.evaluation.scores import EvaluationResult
    from inference.options import PredictionOptions
    from inference.prediction.predict_files import predict_cases
    from inference.predictor import Predictor

__all__ = ["EvaluationResult", "PredictionOptions", "Predictor", "evaluate", "predict_cases"]

_HOMES = {
    "EvaluationResult": "inference.evaluation.scores",
    "PredictionOptions": "inference.options",
    "Predictor": "inference.predictor",
    "evaluate": "inference.evaluation.evaluate",
    "predict_cases": "inference.prediction.predict_files",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
