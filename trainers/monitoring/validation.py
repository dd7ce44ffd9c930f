"""Segment a fold's validation cases as whole volumes on their original grids, and score them."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.cells import cell_len
from torch import nn

from configs.dataset import DatasetDescription
from configs.errors import counted
from configs.files import write_json
from configs.folders import ValidationFolder
from configs.plan import ModelPlan
from configs.progress import Progress
from inference import EvaluationResult, Predictor
from inference.evaluation.scores import LabelScores, score_case, summarise
from inference.evaluation.tables import fitted
from inference.model import Model
from inference.options import PredictionOptions
from inference.predictor import Prepared
from preprocessing.formats.images import read_labels, write_labels
from preprocessing.geometry.same_grid import require_same_grid
from preprocessing.store import CaseStore, StoredCase
from trainers.data.previous_stage import PreviousStage

logger = logging.getLogger(__name__)
_NAME = 28  # terminal cells of a label's name in the table; the rest of a line of 80 is for numbers


def validate_fold(
    predictor: Predictor,
    store: CaseStore,
    identifiers: Sequence[str],
    folder: ValidationFolder,
    progress: Progress,
    tile_progress: Progress | None = None,
    previous: PreviousStage | None = None,
) -> EvaluationResult:
    """Predict the fold's validation cases as `se_predict` would, with its weights only, and compare them with the original label files.

    Writes `<case>.nii.gz` on the grid of each original image, and `metrics.json`. Progress is over the cases, or the tiles of a case.
    """
    folder.metrics.unlink(missing_ok=True)
    scores = {}
    for identifier in progress.track(identifiers, "Validating", len(identifiers)):
        scores[identifier] = _validate_case(predictor, store.read(identifier), folder, previous, tile_progress)
    result = summarise(scores)
    write_json(folder.metrics, result.model_dump(mode="json"))
    return result


def predict_case(
    predictor: Predictor, case: StoredCase, previous: PreviousStage | None = None, progress: Progress | None = None
) -> tuple[NDArray[np.integer], NDArray[np.integer], tuple[float, float, float]]:
    """Segment a prepared case.

    Returns:
        Label values (Z, Y, X) on the original grid, those of the label file, and the grid's spacing (Z, Y, X) in mm.
    """
    properties = case.properties
    if properties.labels is None:
        raise ValueError(f"case {case.identifier} has no label file")
    image = case.image[:] if previous is None else previous.beside(case.image[:], case.identifier)
    prepared = Prepared((torch.from_numpy(image),), (properties.trace,))
    labels = predictor.segment_prepared(prepared, progress=progress).labels
    reference, grid = read_labels(Path(properties.labels))
    require_same_grid(f"case `{case.identifier}`", f"the label file {properties.labels}", grid, properties.trace.geometry)
    return labels, reference, properties.trace.geometry.spacing


def _validate_case(
    predictor: Predictor, case: StoredCase, folder: ValidationFolder, previous: PreviousStage | None, progress: Progress | None
) -> dict[str, LabelScores]:
    """Segment a case, write the segmentation, and return the scores of each label."""
    labels, reference, spacing = predict_case(predictor, case, previous, progress)
    properties = case.properties
    like = Path(properties.images[0]) if properties.images else None
    write_labels(
        folder.segmentation(case.identifier),
        labels,
        properties.trace.geometry,
        like if like is not None and like.is_file() else None,
    )
    return score_case(labels, reference, predictor.description, spacing, annotated=properties.annotated)


def table_of(result: EvaluationResult, description: DatasetDescription) -> str:
    """Return the Dice of each label and their mean as lines of at most 80 cells, with the missed and invented structures."""
    names = [name for name in description.foreground if name in result.means]
    width = min(_NAME, max(cell_len(name) for name in (*names, "mean foreground Dice")))
    lines = [f"  {fitted(name, width)}  {_shown(result.means[name]['dice'].value)}  ({_cases(result, name)})" for name in names]
    return "\n".join([*lines, f"  {'mean foreground Dice':<{width}}  {_shown(result.mean_foreground_dice)}"])


def _cases(result: EvaluationResult, label: str) -> str:
    """Return the number of cases in the mean, and how many of them miss or invent the label."""
    structures = result.structures[label]
    unmatched = {"missed": structures.missed, "invented": structures.invented}
    return ", ".join(
        [counted(result.means[label]["dice"].cases, "case"), *(f"{count} {what}" for what, count in unmatched.items() if count)]
    )


def _shown(value: float | None) -> str:
    return "   -  " if value is None else f"{value:.4f}"


class VolumeCheck:
    """Measures the mean foreground Dice of whole volumes on their original grids, without mirroring and scale averaging.

    The network is taken in its current state at each call. Cases of a cascade have segmentations of the `previous` stage.
    """

    def __init__(
        self,
        network: nn.Module,
        plan: ModelPlan,
        store: CaseStore,
        cases: Sequence[str],
        device: torch.device,
        previous: PreviousStage | None = None,
    ):
        self._previous = previous
        options = PredictionOptions(mirror=False, scales=(1.0,))
        self._predictor = Predictor(Model(plan, {"training": network}), device, options)
        self._network = network
        self._store = store
        self._cases = cases

    def __call__(self) -> float:
        """Return the mean Dice, or NaN if no label occurs in the cases."""
        self._network.eval()
        scores = {}
        for identifier in self._cases:
            case = self._store.read(identifier)
            labels, reference, spacing = predict_case(self._predictor, case, self._previous)
            annotated = case.properties.annotated
            scores[identifier] = score_case(labels, reference, self._predictor.description, spacing, annotated=annotated)
        mean = summarise(scores).mean_foreground_dice
        return float("nan") if mean is None else mean
