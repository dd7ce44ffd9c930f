"""Scores as a table for people."""

from rich import box
from rich.table import Table

from inference.evaluation.robustness import RobustnessResult, words_of
from inference.evaluation.scores import EvaluationResult

_HEADINGS = {
    "dice": "Dice",
    "iou": "IoU",
    "precision": "preci-\nsion",
    "recall": "recall",
    "volume_error": "vol.\nerror",
    "surface_dice": "surf.\nDice",
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
    table.add_column("cases", justify="right", no_wrap=True, min_width=8)
    for label, means in result.means.items():
        dice = means["dice"]
        counted = f"{dice.cases} of {dice.cases + dice.undefined}"
        table.add_row(label, *(_number(means[field].value) for field in shown), counted)
    return table


def robustness_table(result: RobustnessResult) -> Table:
    """One row for each size of the anatomy: mean foreground Dice for each way of ensembling."""
    ways = list(dict.fromkeys(point.ensemble for point in result.points))
    cases = result.points[0].cases if result.points else 0
    caption = f"Means over labels and {cases} validation cases, whose anatomy is made so many times as large at the same spacing."
    table = Table(title="Mean foreground Dice by size of the anatomy", caption=caption, box=box.SIMPLE_HEAD)
    table.add_column("size", justify="right")
    for way in ways:
        table.add_column("plain" if way == (1.0,) else f"ensemble {words_of(way)}", justify="right")
    for scale in sorted({point.scale for point in result.points}):
        found = {point.ensemble: point.mean_foreground_dice for point in result.points if point.scale == scale}
        table.add_row(f"{scale:g}", *(_number(found.get(way)) for way in ways))
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
