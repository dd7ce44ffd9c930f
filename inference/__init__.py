"""Plan and weights to segmentation: sliding window, test-time ensembling, metrics. Never imports a trainer.

`Predictor.load(model_folder)(image, spacing)` segments one image in memory, `predict_cases` segments files, `evaluate` compares
folders. These names are imported when first used, so that the commands can answer `--help` at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inference.evaluation import evaluate
    from inference.options import PredictionOptions
    from inference.prediction import predict_cases
    from inference.predictor import Predictor
    from inference.scores import EvaluationResult

__all__ = ["EvaluationResult", "PredictionOptions", "Predictor", "evaluate", "predict_cases"]

_HOMES = {
    "EvaluationResult": "inference.scores",
    "PredictionOptions": "inference.options",
    "Predictor": "inference.predictor",
    "evaluate": "inference.evaluation",
    "predict_cases": "inference.prediction",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
