"""Scores as a table for people."""

from rich.table import Table

from inference.scores import EvaluationResult, Mean

_COLUMNS = {
    "dice": "Dice",
    "iou": "IoU",
    "precision": "precision",
    "recall": "recall",
    "volume_error": "volume error",
    "surface_dice": "surface Dice",
    "hd95": "HD95 mm",
}


def score_table(result: EvaluationResult) -> Table:
    """One row for each label: means over cases, and over how many of them the Dice runs."""
    surfaces = [] if result.tolerance is None else ["surface_dice", "hd95"]
    shown = ["dice", "iou", "precision", "recall", "volume_error", *surfaces]
    caption = "means over cases; `undefined` cases hold the label neither in prediction nor in reference, and are left out"
    if result.tolerance is not None:
        caption += f"; surface Dice at {result.tolerance:g} mm"
    table = Table(
        title=f"Mean foreground Dice {_number(result.mean_foreground_dice)}, {len(result.cases)} cases", caption=caption
    )
    table.add_column("label")
    for field in shown:
        table.add_column(_COLUMNS[field], justify="right")
    table.add_column("cases", justify="right")
    table.add_column("undefined", justify="right")
    for label, means in result.means.items():
        dice = means["dice"]
        table.add_row(label, *(_mean(means[field]) for field in shown), str(dice.cases), str(dice.undefined))
    return table


def _mean(mean: Mean) -> str:
    return _number(mean.value)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
