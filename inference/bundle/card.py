"""Model card: what a model was trained on, how well it performed, and what it must not be used for."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.errors import InputError, tolerating
from configs.folders import ALL, ModelFolder
from configs.plan import ModelPlan
from configs.training import TrainingConfig
from inference.evaluation.equivariance import read_curve
from inference.evaluation.scores import EvaluationResult, summarise
from inference.evaluation.validated import raise_if_seen, read_scores
from preprocessing.pages.rendering import page_environment

_logger = logging.getLogger(__name__)
_MARKDOWN = re.compile(r"([\\`*\[\]|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")  # within a line; the template escapes HTML


def model_card(model: Path, plan: ModelPlan, folds: Sequence[str], licence: str | None) -> str:
    """Return the card as Markdown, with settings and validation scores if they are in the model folder.

    Names and options appear as plain text, free of HTML and Markdown.
    """
    environment = page_environment("inference.bundle")
    environment.keep_trailing_newline = True
    environment.filters["text"] = as_text
    folder = ModelFolder(model)
    return environment.get_template("model_card.md.j2").render(
        plan=plan,
        folds=list(dict.fromkeys(folds)),
        validation=_validation(model, folds),
        training=TrainingConfig.read(folder.settings) if folder.settings.is_file() else None,
        batch_size=plan.network.batch_size,
        equivariance=read_curve(folder.equivariance),
        licence=licence,
        zip=zip,
    )


def as_text(value: object) -> str:
    """Return a single line with Markdown escaped, for use within a line."""
    return _MARKDOWN.sub(r"\\\1", " ".join(str(value).split()))


def _validation(model: Path, folds: Sequence[str]) -> dict[str, Any] | None:
    """Return the Dice of all folds together, each case once; None if no fold was validated on cases it did not train on."""
    results: dict[str, EvaluationResult] = {}
    for fold in dict.fromkeys(folds):
        folder = ModelFolder(model).fold(fold)
        if fold != ALL and folder.validation.metrics.is_file():
            with tolerating() as faults:  # of another version, or of other weights; a card without scores is better than none
                results[fold] = read_scores(folder)
            if faults:
                _logger.warning("left out of the model card: %s", InputError(*faults))
    for fold, result in results.items():
        raise_if_seen(ModelFolder(model).fold(fold), result.cases)
    if not results:
        return None
    pooled = summarise({case: scores for result in results.values() for case, scores in result.cases.items()})
    return {
        "folds": [(fold, len(result.cases), result.mean_foreground_dice) for fold, result in results.items()],
        "labels": [(label, means["dice"]) for label, means in pooled.means.items()],
        "mean": pooled.mean_foreground_dice,
        "cases": len(pooled.cases),
    }
