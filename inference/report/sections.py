"""Values that the sections of a report show."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from configs.errors import counted, times
from configs.training import TrainingConfig
from inference.evaluation.equivariance import COMPARED, EquivarianceCurve
from inference.evaluation.robustness import words_of
from inference.report.figures import dice_figure, equivariance_figure, robustness_figure, training_figure
from inference.report.numbers import in_bytes, in_time, shown_interval, shown_number, timing_of
from inference.report.scoring import Summary, by_label, dice_table, overall, ranked
from inference.report.trained import TrainedModel
from preprocessing.pages.figures import Picture
from preprocessing.pages.plan_tables import sentences, stage_rows

_MOST_COLUMNS = 8  # labels with their own column in the table of cases
_TITLES = {
    "iou": "IoU",
    "precision": "Precision",
    "recall": "Recall",
    "volume_error": "Volume error",
    "surface_dice": "Surface Dice",
    "hd95": "HD95, mm",
    "lesion_f1": "Lesion F1",
}


@dataclass(frozen=True)
class Measured:
    """Measurements for a report: the equivariance curve, or the reason why there is none."""

    equivariance: EquivarianceCurve | None = None
    why_not: str = "It was not requested."


def results_section(model: TrainedModel, anchors: dict[str, str]) -> dict[str, Any]:
    """Return scores by label, fold and case; `anchors` are the page anchors of cases with pictures."""
    summaries = by_label(model) if model.scores.cases else []
    fields = [name for name in _TITLES if any(name in summary.others for summary in summaries)]
    content: dict[str, Any] = {
        "labels": [_label_row(summary, fields) for summary in summaries],
        "score_titles": [_TITLES[name] for name in fields],
        "case_titles": [],
        "case_rows": [],
        "folds": [],
    }
    if not summaries:
        return content
    everything = overall(model)
    listed = model.plan.dataset.foreground if len(summaries) <= _MOST_COLUMNS else ()
    rows = dict(zip(model.scores.cases, dice_table(model), strict=True))
    return content | {
        "results_words": f"{counted(len(model.scores.cases), 'validation case')}, predicted as whole volumes on the grid of the original "
        f"images by a fold that did not train on them. Mean foreground Dice {shown_number(everything.mean)} (95 % interval "
        f"{shown_interval(everything)}): the mean over labels of each label's mean over cases. Intervals are bootstrap percentiles over "
        f"cases: they show how much the mean would vary with other cases, not with another training."
        if not model.scores.are_of_training_cases
        else f"{counted(len(model.scores.cases), 'training case')}, predicted as whole volumes.",
        "dice_picture": Picture(
            dice_figure([everything, *summaries], first_is_all=True) if len(summaries) > 1 else dice_figure(summaries),
            f"Dice of each case by label. Mean foreground Dice {shown_number(everything.mean)}; the table below gives the numbers.",
            "One dot per case. Orange: mean with its 95 % interval.",
        ),
        "folds": [
            {"name": name, "cases": counted(len(result.cases), "case"), "dice": shown_number(result.mean_foreground_dice)}
            for name, result in model.scores.folds.items()
        ],
        "case_titles": listed,
        "case_rows": [
            {
                "case": case,
                "anchor": anchors.get(case, ""),
                "fold": model.scores.fold_of[case],
                "cells": [_cell(value) for value in (mean, *(rows[case] if listed else ()))],
            }
            for case, mean in ranked(model)
        ],
    }


def _label_row(summary: Summary, fields: Sequence[str]) -> dict[str, Any]:
    values = summary.values
    return {
        "label": summary.label,
        "mean": shown_number(summary.mean),
        "interval": shown_interval(summary),
        "median": shown_number(float(np.median(values)) if len(values) else None),
        "lowest": shown_number(float(values.min()) if len(values) else None),
        "cases": f"{len(values)} of {len(values) + summary.undefined}",
        "scores": [shown_number(summary.others.get(name), 1 if name == "hd95" else 3) for name in fields],
    }


def _cell(value: float) -> dict[str, str]:
    return {"text": shown_number(value), "share": f"{100 * value:.1f}" if math.isfinite(value) else "0"}


def robustness_section(model: TrainedModel) -> dict[str, Any]:
    """Return the Dice over sizes of the anatomy, if measured."""
    result = model.robustness
    if result is None or not any(point.mean_foreground_dice is not None for point in result.points):
        return {"robustness_picture": None}
    sizes = sorted({point.scale for point in result.points})
    rows = []
    for way in dict.fromkeys(point.ensemble for point in result.points):
        dice = {point.scale: point.mean_foreground_dice for point in result.points if point.ensemble == way}
        defined = [value for value in dice.values() if value is not None]
        name = "one size" if way == (1.0,) else f"sizes {words_of(way)}"
        lowest = shown_number(min(defined)) if defined else "-"
        rows.append({"way": name, "dice": [shown_number(dice.get(size)) for size in sizes], "lowest": lowest})
    cases = max(point.cases for point in result.points)
    picture = Picture(
        robustness_figure({model.name: result}),
        "Mean foreground Dice over sizes of the anatomy; the table below gives the numbers.",
        f"{counted(cases, 'validation case')}, resampled so that the anatomy has this relative size at the same spacing, with nothing "
        f"added around it. Dice is measured on that grid.",
    )
    return {"robustness_picture": picture, "robustness_sizes": [f"{size:g}" for size in sizes], "robustness_rows": rows}


def equivariance_section(measured: Measured) -> dict[str, Any]:
    """Return the equivariance error by factor, or why it was not measured."""
    curve = measured.equivariance
    if curve is None or curve.shown is None:
        words = measured.why_not if curve is None else "The network's output is constant, so there is nothing to compare."
        return {"equivariance_picture": None, "equivariance_words": f"Not measured. {words}"}
    where = [f"on {counted(curve.cases, 'validation case')}"] if curve.on_cases else []
    where += ["on smooth random fields"] if curve.on_fields else []
    words = (
        "For an equivariant network, enlarging the image and segmenting it gives the same as segmenting it and enlarging the result. The "
        "error is the mean squared difference divided by the variance of the result: 0 if they agree, about 1 if they are unrelated. It "
        f"was measured {' and '.join(where)} with the final weights of fold {curve.fold}, on {times(curve.shape)} voxels about the centre "
        f"of the labels. The central {COMPARED:.0%} of each side is compared; the rest is a margin. Networks see beyond that margin, "
        "so the image border contributes to the error."
    )
    shown = {"validation cases, probabilities": curve.on_cases, "random fields, scores": curve.on_fields}
    rows = [
        {"on": name, "errors": [shown_number(error) for error in errors], "mean": shown_number(sum(errors) / len(errors))}
        for name, errors in shown.items()
        if errors
    ]
    picture = Picture(
        equivariance_figure({"this model": curve}),
        "Equivariance error by factor of enlargement; the table below gives the numbers.",
        f"Errors for enlargement by {', '.join(f'{factor:g}' for factor in curve.factors)}; below 1 the image shrinks.",
    )
    factors = [f"{factor:g}" for factor in curve.factors]
    return {
        "equivariance_picture": picture,
        "equivariance_words": words,
        "equivariance_factors": factors,
        "equivariance_rows": rows,
    }


def training_section(model: TrainedModel) -> dict[str, Any]:
    """Return curves, time, memory and settings of the training."""
    figure = training_figure(model.folds)
    picture = figure and Picture(
        figure,
        "Loss and Dice on validation patches over epochs.",
        "Validation loss and Dice are of random patches and optimistic; the results above are of whole volumes.",
    )
    timings = [
        {
            "fold": timing.fold,
            "epochs": str(timing.epochs),
            "total": in_time(timing.total),
            "epoch": in_time(timing.epoch),
            "waiting": "-" if timing.waiting is None else f"{timing.waiting:.0%}",
            "skipped": str(timing.skipped),
            "memory": "-" if timing.memory is None else in_bytes(timing.memory),
        }
        for fold in model.folds
        if (timing := timing_of(fold))
    ]
    return {"training_picture": picture, "timings": timings, "settings": _settings(model)}


def _settings(model: TrainedModel) -> list[tuple[str, str]]:
    """Return the settings that differ from the defaults."""
    if model.training is None:
        return []
    given, default = model.training.model_dump(), TrainingConfig().model_dump()
    return [(name.replace("_", " "), str(value)) for name, value in given.items() if value != default[name]]


def plan_section(model: TrainedModel) -> dict[str, Any]:
    """Return every decision with its reason, and the stages of the network."""
    return {
        "configuration_name": model.plan.configuration_name,
        "network_name": model.plan.network_name,
        "configuration_reasons": sentences(model.plan.configuration.reasons),
        "network_reasons": sentences(model.plan.network.reasons),
        "stage_rows": stage_rows(model.plan.configuration, model.plan.network),
    }
