"""Tables for a terminal, and as CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from configs.files import write_text


def text_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Rows in columns as wide as their contents, numbers to the right.

    Args:
        rows: values by column; what is None or absent is left empty.
        columns: column -> how its values are written, as in `str.format`.
    """
    cells = [[name.replace("_", " ") for name in columns]]
    cells += [["" if row.get(name) is None else form.format(row[name]) for name, form in columns.items()] for row in rows]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    left = [form == "{}" for form in columns.values()]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if text else cell.rjust(width) for cell, width, text in zip(line, widths, left, strict=True)
        ).rstrip()
        for line in cells
    )


def write_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """The rows as CSV with the columns of the first one; whole file or none."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
