"""Best, median and worst cases of a model, with their pictures."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from configs.errors import InputError, is_of_system
from inference.report.case_slices import Slice, cut_slices, load_segmented, spread
from inference.report.numbers import shown_number
from inference.report.scoring import notable, ranked
from inference.report.trained import TrainedModel

_logger = logging.getLogger(__name__)
MONTAGE = 6  # slices
VIEWER = 64  # slices at most
_AROUND = 3  # slices of a viewer beyond the labels


@dataclass(frozen=True)
class ShownCase:
    """A case with its pictures, or why there are none."""

    identifier: str
    anchor: str
    why: str
    dice: str
    problem: str = ""
    montage: Sequence[Slice] = ()
    viewer: Sequence[Slice] = ()
    start: int = 0


def show_cases(model: TrainedModel, colours: Sequence[str], worst: int) -> list[ShownCase]:
    """The worst cases, the median one and the best, from their files; a colour for each label."""
    dice, chosen = dict(ranked(model)), notable(model, max(1, worst))
    viewed = [case for case, why in chosen.items() if why.startswith(("worst", "the worst"))][:worst]
    shown = []
    for number, (case, why) in enumerate(chosen.items(), start=1):
        plain = ShownCase(case, f"case-{number}", why, shown_number(dice[case]))
        try:
            shown.append(_with_pictures(plain, model, colours, case in viewed))
        except InputError as error:
            if is_of_system(error):
                raise
            problem = " ".join(str(fault) for fault in error.faults)
            _logger.warning("left out of the report, pictures of case `%s`: %s", case, problem)
            shown.append(replace(plain, problem=problem))
    return shown


def _with_pictures(shown: ShownCase, model: TrainedModel, colours: Sequence[str], with_viewer: bool) -> ShownCase:
    description, plan = model.planned.dataset, model.planned.plan
    prediction = model.folder / f"fold_{model.scores.fold_of[shown.identifier]}" / "validation" / f"{shown.identifier}.nii.gz"
    dataset_folder = model.folder.resolve().parent.parent
    case = load_segmented(dataset_folder, prediction, shown.identifier, description, plan.orientation)
    shown = replace(shown, montage=cut_slices(case, spread(case, MONTAGE), description, colours, close=True))
    if not with_viewer:
        return shown
    positions = spread(case, VIEWER, _AROUND)
    fullest = int(case.occupied[positions].sum(axis=(1, 2)).argmax())
    return replace(shown, viewer=cut_slices(case, positions, description, colours, close=False), start=fullest)


def slices_words(model: TrainedModel) -> str:
    """How to read the pictures."""
    channel = model.planned.dataset.channels[0]
    sides = "X grows to the right" + (
        ", which is the patient's right, and the front is up" if _is_turned(model) else ", Y upwards"
    )
    return (
        f"Channel {channel}, from its 0.5th to its 99.5th percentile; slices across Z, {sides}. Small pictures show the surroundings "
        f"of the labels. Of the worst cases all slices with labels are here: move the slider, or press the arrow keys on the picture."
    )


def _is_turned(model: TrainedModel) -> bool:
    return model.planned.plan.orientation == "canonical"
