"""Inference: prediction by sliding window and test-time ensembling, evaluation, selection, reports and bundles. Never imports trainers."""

from typing import TYPE_CHECKING

from configs.named_parts import import_on_use

if TYPE_CHECKING:
    from inference.bundle.export import export_bundle
    from inference.bundle.install import import_bundle
    from inference.bundle.onnx import export_network
    from inference.engine.assemble import Segmentation, Wanted
    from inference.evaluation.evaluate import evaluate
    from inference.evaluation.scores import EvaluationResult
    from inference.options import PredictionOptions
    from inference.prediction.predict_files import predict_cases
    from inference.predictor import Predictor
    from inference.report.run import ReportOptions, write_report
    from inference.selection.run import SelectionOptions, select

__all__ = [
    "EvaluationResult",
    "PredictionOptions",
    "Predictor",
    "ReportOptions",
    "Segmentation",
    "SelectionOptions",
    "Wanted",
    "evaluate",
    "export_bundle",
    "export_network",
    "import_bundle",
    "predict_cases",
    "select",
    "write_report",
]

__getattr__ = import_on_use(
    __name__,
    {
        "EvaluationResult": "inference.evaluation.scores",
        "PredictionOptions": "inference.options",
        "Predictor": "inference.predictor",
        "ReportOptions": "inference.report.run",
        "Segmentation": "inference.engine.assemble",
        "SelectionOptions": "inference.selection.run",
        "Wanted": "inference.engine.assemble",
        "evaluate": "inference.evaluation.evaluate",
        "export_bundle": "inference.bundle.export",
        "export_network": "inference.bundle.onnx",
        "import_bundle": "inference.bundle.install",
        "predict_cases": "inference.prediction.predict_files",
        "select": "inference.selection.run",
        "write_report": "inference.report.run",
    },
)
