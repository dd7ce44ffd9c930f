"""Score one case and many, and count cases with undefined scores.

No structure that a prediction misses may improve a mean. A label that only the reference has is missed, one that only the prediction
has is invented. Either counts with the worst value: 0 for shares, the diagonal of the image for distances.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from configs.dataset import DatasetDescription
from configs.files import Value
from inference.evaluation.metrics import (
    confusion_matrix,
    detect_lesions,
    overlap,
    surface_dice,
    surface_distances,
    volume_similarity,
)
from preprocessing.dataset.labels import to_class_indices
from preprocessing.tables import write_table

_OF_SURFACES = ("surface_dice", "surface_dice_by_voxels", "hd95")
Unmatched = Literal["diagonal", "excluded"]  # the distance of a structure that is missed or invented


class LabelScores(Value):
    """Scores of one label or region in one case; None where a score is undefined."""

    dice: float | None  # None if prediction and reference are both empty, 0 if one is
    iou: float | None  # undefined where Dice is
    precision: float | None  # 0 if the label is missed; undefined where Dice is
    recall: float | None  # None if the label is absent from the reference
    volume_error: float | None  # signed, so that errors of different cases may cancel; undefined where recall is
    predicted_volume: float  # mm^3
    reference_volume: float  # mm^3
    surface_dice: float | None = None  # share of both surfaces' area within the tolerance; None if both are empty
    surface_dice_by_voxels: float | None = None  # the same with equal weight for each surface voxel
    hd95: float | None = None  # 95 % Hausdorff distance in mm; see `Unmatched` where only one of both is empty
    lesion_f1: float | None = None  # F1 score of detecting connected components, see `metrics.Detection`; None if there are none
    lesions_detected: int | None = None
    lesions_missed: int | None = None
    lesions_false: int | None = None
    volume_similarity: float | None = None  # see `metrics.volume_similarity`; undefined where Dice is

    @property
    def structure(self) -> str:
        """`found` or `missed` if the reference has the label, else `invented` or `absent`."""
        if self.reference_volume > 0:
            return "found" if self.predicted_volume > 0 else "missed"
        return "invented" if self.predicted_volume > 0 else "absent"


class Structures(Value):
    """Numbers of cases by occurrence of a label."""

    found: int  # in prediction and reference, whether or not they overlap
    missed: int  # in the reference only
    invented: int  # in the prediction only
    absent: int  # in neither


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
        unmatched: what a missed or invented structure counts in `hd95`; files of earlier versions left them out of the mean.
        structures: numbers of found, missed and invented structures by label.
        without_prediction: references that have no prediction, which no score includes.
    """

    mean_foreground_dice: float | None
    tolerance: float | None
    means: dict[str, dict[str, Mean]]
    cases: dict[str, dict[str, LabelScores]]
    unmatched: Unmatched = "excluded"
    structures: dict[str, Structures] = Field(default_factory=dict)
    without_prediction: tuple[str, ...] = ()

    def write_csv(self, path: Path) -> None:
        """Write one row for each case and label; undefined scores are empty. Whole file or none."""
        rows = (
            [case, label, *scores.model_dump().values(), scores.structure]
            for case, labels in self.cases.items()
            for label, scores in labels.items()
        )
        write_table(path, ["case", "label", *LabelScores.model_fields, "structure"], rows)


def score_case(
    predicted: NDArray[np.integer],
    reference: NDArray[np.integer],
    description: DatasetDescription,
    spacing: tuple[float, float, float],
    tolerance: float | None = None,
    unmatched: Unmatched = "diagonal",
    annotated: Sequence[str] | None = None,
) -> dict[str, LabelScores]:
    """Score each foreground label or region of label values (Z, Y, X), with the spacing (Z, Y, X) and the `tolerance` in mm.

    Labels that are not among those that were `annotated` in the reference have no scores; None is all labels. Voxels that the reference
    marks as ignored are excluded. Without a tolerance, surfaces are not measured. `unmatched` is the distance of a missed or invented
    structure: the diagonal of the image, or none.

    Raises:
        ValueError: the shapes differ.
        InputError: the description does not name some values.
    """
    predicted, reference = to_class_indices(predicted, description), to_class_indices(reference, description)
    considered = np.ones(reference.shape, bool) if description.ignore_index is None else reference != description.ignore_index
    confusion = confusion_matrix(predicted[considered], reference[considered], len(description.values) + 1)
    scores = {}
    for name in description.foreground if annotated is None else annotated:
        members = description.class_indices(name)
        counts = overlap(confusion, members)
        is_unmatched = (counts.predicted > 0) != (counts.reference > 0)
        surface: dict[str, float | None] = {}
        masks = [_mask(indices, members) & considered for indices in (predicted, reference)]
        lesions = detect_lesions(masks[0], masks[1])
        if tolerance is not None:
            distances = surface_distances(masks[0], masks[1], spacing)
            worst = image_diagonal(reference.shape, spacing) if is_unmatched and unmatched == "diagonal" else None
            surface = {
                "surface_dice": _defined(surface_dice(masks[0], masks[1], spacing, tolerance)),
                "surface_dice_by_voxels": _defined(distances.dice_by_voxels(tolerance)),
                "hd95": _defined(distances.hd95) if worst is None else worst,
            }
        scores[name] = LabelScores(
            dice=_defined(counts.dice),
            iou=_defined(counts.iou),
            precision=0.0 if is_unmatched else _defined(counts.precision),
            recall=_defined(counts.recall),
            volume_error=_defined(counts.volume_error),
            predicted_volume=counts.predicted * math.prod(spacing),
            reference_volume=counts.reference * math.prod(spacing),
            lesion_f1=_defined(lesions.f1),
            lesions_detected=lesions.detected,
            lesions_missed=lesions.missed,
            lesions_false=lesions.false,
            volume_similarity=_defined(volume_similarity(counts.predicted, counts.reference)),
            **surface,
        )
    return scores


def image_diagonal(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """Return the diagonal of an image in mm; no distance between two of its voxels is as long."""
    return math.hypot(*(size * step for size, step in zip(shape, spacing, strict=True)))


def summarise(
    cases: Mapping[str, dict[str, LabelScores]],
    tolerance: float | None = None,
    unmatched: Unmatched = "diagonal",
    without_prediction: Sequence[str] = (),
) -> EvaluationResult:
    """Compute the means over cases, and count missed and invented structures. Arguments are as in `EvaluationResult`."""
    labels = list(dict.fromkeys(label for scores in cases.values() for label in scores))
    fields = [field for field in LabelScores.model_fields if tolerance is not None or field not in _OF_SURFACES]
    means = {
        label: {field: _mean([getattr(scores[label], field) for scores in cases.values() if label in scores]) for field in fields}
        for label in labels
    }
    dice = _mean([means[label]["dice"].value for label in labels])
    return EvaluationResult(
        mean_foreground_dice=dice.value,
        tolerance=tolerance,
        means=means,
        cases=dict(cases),
        unmatched=unmatched,
        structures={
            label: _count_structures([scores[label] for scores in cases.values() if label in scores]) for label in labels
        },
        without_prediction=tuple(without_prediction),
    )


def _count_structures(scores: Sequence[LabelScores]) -> Structures:
    counts = Counter(one.structure for one in scores)
    return Structures(**{name: counts[name] for name in Structures.model_fields})


def _mean(values: list[float | None]) -> Mean:
    defined = [value for value in values if value is not None]
    value = math.fsum(defined) / len(defined) if defined else None
    return Mean(value=value, cases=len(defined), undefined=len(values) - len(defined))


def _mask(indices: NDArray[np.integer], members: Sequence[int]) -> NDArray[np.bool_]:
    return indices == members[0] if len(members) == 1 else np.isin(indices, members)


def _defined(score: float) -> float | None:
    return None if math.isnan(score) else score
