"""Score one case and many, and count cases with undefined scores."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs.dataset import DatasetDescription
from configs.files import Value
from inference.evaluation.metrics import confusion_matrix, detect_lesions, overlap, surface_dice, surface_distances
from preprocessing.dataset.labels import to_class_indices
from preprocessing.tables import write_table

_OF_SURFACES = ("surface_dice", "surface_dice_by_voxels", "hd95")


class LabelScores(Value):
    """Scores of one label or region in one case; None where a score is undefined."""

    dice: float | None  # None if prediction and reference are both empty, 0 if one is
    iou: float | None  # undefined where Dice is
    precision: float | None  # None if nothing is predicted
    recall: float | None  # None if the label is absent from the reference
    volume_error: float | None  # None if the label is absent from the reference
    predicted_volume: float  # mm^3
    reference_volume: float  # mm^3
    surface_dice: float | None = None  # share of both surfaces' area within the tolerance; None if both are empty
    surface_dice_by_voxels: float | None = None  # the same with equal weight for each surface voxel
    hd95: float | None = None  # 95 % Hausdorff distance in mm; None if prediction or reference is empty
    lesion_f1: float | None = None  # F1 score of detecting connected components, see `metrics.Detection`; None if there are none
    lesions_detected: int | None = None
    lesions_missed: int | None = None
    lesions_false: int | None = None


class Mean(Value):
    """Mean over the cases in which a score is defined."""

    value: float | None  # mean; None if the score is defined in no case
    cases: int  # number of cases in the mean
    undefined: int  # number of other cases


class EvaluationResult(Value):
    """Scores of all cases.

    Attributes:
        mean_foreground_dice: mean over labels of each label's mean Dice, without labels whose Dice is defined in no case.
        tolerance: tolerance of the surface Dice in mm; None if surfaces were not measured.
        means: mean over cases of each score, by label and score.
        cases: scores by case and label.
    """

    mean_foreground_dice: float | None
    tolerance: float | None
    means: dict[str, dict[str, Mean]]
    cases: dict[str, dict[str, LabelScores]]

    def write_csv(self, path: Path) -> None:
        """Write one row for each case and label; undefined scores are empty. Whole file or none."""
        rows = (
            [case, label, *scores.model_dump().values()]
            for case, labels in self.cases.items()
            for label, scores in labels.items()
        )
        write_table(path, ["case", "label", *LabelScores.model_fields], rows)


def score_case(
    predicted: NDArray[np.integer],
    reference: NDArray[np.integer],
    description: DatasetDescription,
    spacing: tuple[float, float, float],
    tolerance: float | None = None,
) -> dict[str, LabelScores]:
    """Score each foreground label or region. Voxels that the reference marks as ignored are excluded.

    Args:
        predicted, reference: label values (Z, Y, X) of the description.
        description: dataset description that defines names and values.
        spacing: spacing (Z, Y, X) in mm.
        tolerance: tolerance of the surface Dice in mm; None skips surface metrics.

    Raises:
        ValueError: the shapes differ.
        InputError: the description does not name some values.
    """
    predicted, reference = to_class_indices(predicted, description), to_class_indices(reference, description)
    considered = np.ones(reference.shape, bool) if description.ignore_index is None else reference != description.ignore_index
    confusion = confusion_matrix(predicted[considered], reference[considered], len(description.values) + 1)
    scores = {}
    for name in description.foreground:
        members = description.class_indices(name)
        counts = overlap(confusion, members)
        surface: dict[str, float | None] = {}
        masks = [_mask(indices, members) & considered for indices in (predicted, reference)]
        lesions = detect_lesions(masks[0], masks[1])
        if tolerance is not None:
            distances = surface_distances(masks[0], masks[1], spacing)
            surface = {
                "surface_dice": _defined(surface_dice(masks[0], masks[1], spacing, tolerance)),
                "surface_dice_by_voxels": _defined(distances.dice_by_voxels(tolerance)),
                "hd95": _defined(distances.hd95),
            }
        scores[name] = LabelScores(
            dice=_defined(counts.dice),
            iou=_defined(counts.iou),
            precision=_defined(counts.precision),
            recall=_defined(counts.recall),
            volume_error=_defined(counts.volume_error),
            predicted_volume=counts.predicted * math.prod(spacing),
            reference_volume=counts.reference * math.prod(spacing),
            lesion_f1=_defined(lesions.f1),
            lesions_detected=lesions.detected,
            lesions_missed=lesions.missed,
            lesions_false=lesions.false,
            **surface,
        )
    return scores


def summarise(cases: Mapping[str, dict[str, LabelScores]], tolerance: float | None = None) -> EvaluationResult:
    """Compute the means over cases."""
    labels = list(dict.fromkeys(label for scores in cases.values() for label in scores))
    fields = [field for field in LabelScores.model_fields if tolerance is not None or field not in _OF_SURFACES]
    means = {
        label: {field: _mean([getattr(scores[label], field) for scores in cases.values() if label in scores]) for field in fields}
        for label in labels
    }
    dice = _mean([means[label]["dice"].value for label in labels])
    return EvaluationResult(mean_foreground_dice=dice.value, tolerance=tolerance, means=means, cases=dict(cases))


def _mean(values: list[float | None]) -> Mean:
    defined = [value for value in values if value is not None]
    value = math.fsum(defined) / len(defined) if defined else None
    return Mean(value=value, cases=len(defined), undefined=len(values) - len(defined))


def _mask(indices: NDArray[np.integer], members: Sequence[int]) -> NDArray[np.bool_]:
    return indices == members[0] if len(members) == 1 else np.isin(indices, members)


def _defined(score: float) -> float | None:
    return None if math.isnan(score) else score
