"""Calibrate a trained model on the validation cases of its folds."""

import logging
from collections.abc import Sequence

import torch
from torch import nn

from configs.errors import tolerating
from configs.folders import ALL, FoldFolder, ModelFolder
from configs.plan import ModelPlan
from configs.progress import Progress
from configs.run_log import digest
from inference.engine.capacity import Capacity
from inference.sizes.calibrate import FEWEST_CASES, calibrate
from inference.sizes.calibration import WIDEST, Calibration
from inference.sizes.measure import Looks, Observer, measure_looks
from preprocessing.run import require_prepared
from preprocessing.store import CaseStore

logger = logging.getLogger(__name__)


def look_at_fold(
    fold: FoldFolder,
    network: nn.Module,
    plan: ModelPlan,
    store: CaseStore,
    cases: Sequence[str],
    device: torch.device,
    progress: Progress | None = None,
) -> None:
    """Look at validation cases of a fold with its final network, and write `looks.json`.

    Raises:
        InputError: cases are missing in the store, or were prepared with another plan.
    """
    require_prepared(store, cases, plan)
    looks = measure_looks(Observer(network, plan, Capacity.of(device)), store, cases, digest(fold.final_weights), progress)
    looks.write(fold.looks)


def can_look(fold: FoldFolder, plan: ModelPlan) -> bool:
    """Return whether a fold can be calibrated: not fold `all`, which knows its cases, nor the second network of a cascade."""
    return fold.name != ALL and plan.configuration.previous is None


def has_looks(fold: FoldFolder) -> bool:
    """Return whether a fold has looks of its present weights."""
    return _looks_of(fold) is not None


def calibrate_model(model: ModelFolder, plan: ModelPlan) -> Calibration | None:
    """Write `calibration.json` from the looks of all folds that have the weights of now; None where they are too few.

    A calibration that was made before is removed where it cannot be made again.
    """
    known = {fold.name: looks for fold in model.folds() if (looks := _looks_of(fold)) is not None}
    made = calibrate(list(known.values()), plan.whole.sizes or WIDEST) if known else None
    if made is None:
        model.calibration.unlink(missing_ok=True)
        number = sum(len(looks.cases) for looks in known.values())
        tell_too_few(number)
        return None
    made = made.model_copy(update={"networks": {fold: looks.weights for fold, looks in known.items()}})
    made.write(model.calibration)
    state = "on" if made.searches else "off"
    logger.info(
        "expected Dice: calibrated on %d validation cases, with a mean error of %.3f over all sizes", made.cases, made.error
    )
    logger.info("the search of the size is %s: %s", state, made.reason)
    missed = [label for position, label in enumerate(made.labels) if made.always[position] and made.is_missed(position)]
    if missed:
        logger.warning(
            "labels that every validation case has, but that the network misses in most of them: %s", ", ".join(missed)
        )
    return made


def tell_too_few(number: int) -> None:
    """Log that there are fewer validation cases than a calibration needs."""
    logger.info("expected Dice: not calibrated, since there are %d of at least %d validation cases", number, FEWEST_CASES)


def _looks_of(fold: FoldFolder) -> Looks | None:
    """Return the looks of a fold, or None where there are none of its present weights; damaged ones are made again."""
    if not (fold.looks.is_file() and fold.final_weights.is_file()):
        return None
    with tolerating():
        looks = Looks.read(fold.looks)
        return looks if looks.weights == digest(fold.final_weights) else None
    logger.warning("%s cannot be read and is left out", fold.looks)
    return None
