"""Tables for a terminal, and as CSV."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from preprocessing.tables import write_table


def text_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Return rows as text, in columns as wide as their contents.

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


def show_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], csv: Path | None) -> None:
    """Print rows with columns as in `text_table`, and write them to a CSV file if there is a path."""
    print(text_table(rows, columns))
    if csv:
        write_csv(rows, csv)


def write_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows as CSV, atomically. The columns are those of all rows, in order of appearance."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    write_table(path, columns, [[row.get(column) for column in columns] for row in rows])


def markdown(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Return rows as a Markdown table; columns are as in `text_table`."""
    lines = [list(columns), ["---"] * len(columns)]
    lines += [["" if row.get(name) is None else form.format(row[name]) for name, form in columns.items()] for row in rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("_", " ") if cell in columns else cell for cell in line) + " |" for line in lines
    )
