"""Dice of a trained network on cases whose anatomy is made larger or smaller."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from inference import PredictionOptions, Predictor
from inference.evaluation.robustness import ValidationCase, rescale, stored_values
from inference.evaluation.scores import score_case, summarise
from preprocessing.dataset.labels import to_class_indices
from preprocessing.dataset.raw import CaseFiles
from preprocessing.formats.images import read_image, read_labels

WAYS = {  # of test-time scale ensembling; without reflections, to spare time, for all networks alike
    "none": PredictionOptions(mirror=False, scales=(1.0,)),
    "mean": PredictionOptions(mirror=False, scales=(0.8, 1.0, 1.25)),
    "search": PredictionOptions(mirror=False, search="always"),
}


def dice_at_sizes(
    model: Path, cases: Mapping[str, CaseFiles], factors: Sequence[float], ways: Sequence[str] = ("none",)
) -> dict[str, dict[str, float | None]]:
    """Return the mean foreground Dice: way of ensembling -> factor as text -> Dice.

    Args:
        model: model folder.
        cases: cases with their references.
        factors: factors of the anatomy's size; the spacing is kept and nothing is added around the image.
        ways: names from `WAYS`.
    """
    predictors = {way: Predictor.load(model, "cpu", options=WAYS[way]) for way in ways}
    return {way: {f"{factor:g}": _dice(predictor, cases, factor) for factor in factors} for way, predictor in predictors.items()}


def _dice(predictor: Predictor, cases: Mapping[str, CaseFiles], factor: float) -> float | None:
    scores = {}
    for identifier, files in cases.items():
        image, truth, geometry = rescale(_read(identifier, files, predictor), factor)
        answer = predictor.segment(image, geometry, where=f"case `{identifier}`").labels
        scores[identifier] = score_case(
            answer, stored_values(truth, predictor.description), predictor.description, geometry.spacing
        )
    return summarise(scores).mean_foreground_dice


def _read(identifier: str, files: CaseFiles, predictor: Predictor) -> ValidationCase:
    if files.labels is None:
        raise ValueError(f"case {identifier} has no truth")
    image, geometry = read_image(list(files.images))
    labels, _ = read_labels(files.labels)
    return ValidationCase(identifier, "0", image, to_class_indices(labels, predictor.description), geometry)
