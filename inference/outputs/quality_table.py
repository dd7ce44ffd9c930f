"""Write what is expected of each segmentation as tables, and name the cases to look at first."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from configs.files import read_rows
from inference.sizes.quality import Quality
from preprocessing.dataset.by_products import QUALITY
from preprocessing.tables import gather, write_table

logger = logging.getLogger(__name__)
HEADING = ["case", "label", "expected_dice", "low", "high", "size", "doubts"]
WHOLE = "(all)"  # the row of a case as a whole


def write_quality(path: Path, case: str, quality: Quality) -> None:
    """Write a row for the case as a whole, with its size relative to training and its doubts, and one for each label, atomically."""
    rows: list[list[object]] = [
        [case, WHOLE, round(quality.mean, 4), None, None, round(quality.size, 3), "; ".join(quality.doubts)]
    ]
    for label, one in quality.expected.items():
        numbers = [None] * 3 if one is None else [round(value, 4) for value in (one.dice, one.low, one.high)]
        rows.append([case, label, *numbers, None, None])
    write_table(path, HEADING, rows)


def gather_quality(folder: Path, cases: Iterable[str]) -> Path | None:
    """Combine the files of single cases as `quality.csv`, log the doubtful cases, and return the path; None if there are no files."""
    table = gather(folder, cases, QUALITY)
    if table is None:
        return None
    whole = [row for _, row in read_rows(table)[1:] if row[1] == WHOLE]
    doubtful = sorted((row for row in whole if row[6]), key=lambda row: float(row[2]))
    for row in doubtful:
        logger.warning("case `%s`: expected Dice %.2f; %s", row[0], float(row[2]), row[6])
    if doubtful:
        logger.warning("%d of %d cases should be looked at first; see %s", len(doubtful), len(whole), table)
    return table


def caption(quality: Quality | None) -> str:
    """Return one line for the preview."""
    if quality is None:
        return "expected Dice: not calibrated"
    labels: Mapping[str, str] = {
        label: "not found" if one is None else f"{one.dice:.2f} ({one.low:.2f} to {one.high:.2f})"
        for label, one in quality.expected.items()
    }
    shown = ", ".join(f"{label} {words}" for label, words in list(labels.items())[:6])
    return f"expected Dice: {shown}" + ("; look at this case" if quality.doubts else "")
