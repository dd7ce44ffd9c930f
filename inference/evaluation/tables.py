"""Print scores as tables."""

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
    """Return a table for 80 columns, with a row for each label: means over cases, and the number of cases with a defined Dice."""
    surfaces = [] if result.tolerance is None else ["surface_dice", "hd95"]
    shown = [field for field in _HEADINGS if field in surfaces or field not in ("surface_dice", "hd95")]
    caption = "Means over cases. A case with a label in neither prediction nor reference is excluded from that label's Dice."
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
    """Return a table with a row for each size of the anatomy: mean foreground Dice of each ensemble."""
    ways = list(dict.fromkeys(point.ensemble for point in result.points))
    cases = result.points[0].cases if result.points else 0
    caption = f"Means over labels and {cases} validation cases, resampled so that the anatomy has this relative size at the same spacing."
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
