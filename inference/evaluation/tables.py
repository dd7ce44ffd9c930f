"""Print scores as tables."""

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.markup import escape
from rich.table import Table

from configs.errors import counted
from inference.evaluation.robustness import RobustnessResult, words_of
from inference.evaluation.scores import EvaluationResult

_HEADINGS = {
    "dice": "Dice",
    "iou": "IoU",
    "precision": "preci-\nsion",
    "recall": "re-\ncall",
    "volume_similarity": "vol.\nsim.",
    "surface_dice": "surf.\nDice",
    "hd95": "HD95\nmm",
    "lesion_f1": "lesion\nF1",
}


def score_table(result: EvaluationResult) -> Table:
    """Return a table for 80 columns: for each label means over cases, and numbers of cases, of missed and of invented structures.

    A label's name takes the width that is left and is folded into several lines if it is longer.
    """
    surfaces = [] if result.tolerance is None else ["surface_dice", "hd95"]
    shown = [field for field in _HEADINGS if field in surfaces or field not in ("surface_dice", "hd95")]
    title = f"Mean foreground Dice {_number(result.mean_foreground_dice)}, {counted(len(result.cases), 'case')}"
    table = Table(title=title, caption=_caption(result), box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    table.add_column("label", overflow="fold")
    for heading in (*(_HEADINGS[field] for field in shown), "cases", "mis-\nsed", "in-\nvent-\ned"):
        table.add_column(heading, justify="right", no_wrap=True)
    digits = _digits([means["hd95"].value for means in result.means.values()] if surfaces else [])
    for label, means in result.means.items():
        structures, dice = result.structures[label], means["dice"]
        total = dice.cases + dice.undefined
        cases = f"{dice.cases} of {total}" if total < 100 else f"{dice.cases} of\n{total}"
        scores = (_number(means[field].value, digits if field == "hd95" else 3) for field in shown)
        table.add_row(escape(label), *scores, cases, str(structures.missed), str(structures.invented))
    return table


def _caption(result: EvaluationResult) -> str:
    """Return what the means include, beside the numbers."""
    parts = ["Means over cases. A case with a label in neither prediction nor reference is excluded from that label's means."]
    if result.tolerance is None:
        parts.append("A missed or invented structure counts as 0.")
    else:
        worst = "the diagonal of its image in HD95" if result.unmatched == "diagonal" else "is excluded from HD95"
        parts.append(f"A missed or invented structure counts as 0, and {worst}. Surface Dice at {result.tolerance:g} mm.")
    if result.without_prediction:
        parts.append(f"{counted(len(result.without_prediction), 'reference')} without a prediction are in no mean.")
    return " ".join(parts)


def fitted(text: str, width: int) -> str:
    """Return a text in exactly this many terminal cells: padded, or with its middle left out."""
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    start = width // 2
    return f"{set_cell_size(text, start)}…{set_cell_size(text[::-1], width - start - 1)[::-1]}"


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


def _digits(distances: list[float | None]) -> int:
    """Return the number of decimal places with which distances below 1000 mm take five characters."""
    largest = max((distance for distance in distances if distance is not None), default=0.0)
    return 3 if largest < 10 else 2 if largest < 100 else 1


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
