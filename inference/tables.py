"""Scores as a table for people."""

from rich import box
from rich.table import Table

from inference.scores import EvaluationResult

_HEADINGS = {
    "dice": "Dice",
    "iou": "IoU",
    "precision": "precision",
    "recall": "recall",
    "volume_error": "volume\nerror",
    "surface_dice": "surface\nDice",
    "hd95": "HD95\nmm",
    "lesion_f1": "lesion\nF1",
}


def score_table(result: EvaluationResult) -> Table:
    """One row for each label: means over cases, and over how many of the cases the Dice runs. Fits 80 columns."""
    surfaces = [] if result.tolerance is None else ["surface_dice", "hd95"]
    shown = [field for field in _HEADINGS if field in surfaces or field not in ("surface_dice", "hd95")]
    caption = (
        "Means over cases. A case that holds a label neither in prediction nor in reference is left out of that label's Dice."
    )
    if result.tolerance is not None:
        caption += f" Surface Dice at {result.tolerance:g} mm."
    title = f"Mean foreground Dice {_number(result.mean_foreground_dice)}, {len(result.cases)} cases"
    table = Table(title=title, caption=caption, box=box.SIMPLE_HEAD)
    table.add_column("label", overflow="fold")
    for field in shown:
        table.add_column(_HEADINGS[field], justify="right", no_wrap=True)
    table.add_column("cases", justify="right", no_wrap=True)
    for label, means in result.means.items():
        dice = means["dice"]
        counted = f"{dice.cases} of {dice.cases + dice.undefined}"
        table.add_row(label, *(_number(means[field].value) for field in shown), counted)
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
