"""Tables as CSV files."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import Fault, raise_faults
from configs.files import read_text, write_text

if TYPE_CHECKING:
    import pandas as pd


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write CSV with a heading and a line for each row, whole or not at all; None is left empty, numbers keep all digits."""
    import pandas as pd  # takes half a second to load, and only some commands write tables

    write_frame(path, pd.DataFrame(list(rows), columns=list(columns), dtype=object))


def write_frame(path: Path, frame: "pd.DataFrame", with_index: bool = False, float_format: str | None = None) -> None:
    """Write a pandas table as CSV, whole or not at all; missing values are left empty."""
    write_text(path, frame.to_csv(index=with_index, lineterminator="\n", float_format=float_format))


def gather(folder: Path, cases: Iterable[str], ending: str) -> Path | None:
    """Combine tables such as `<case>_quality.csv` of a folder as `quality.csv`, and return its path; None if there are none."""
    texts = [read_text(path) for case in sorted(cases) if (path := folder / f"{case}{ending}.csv").is_file()]
    if not texts:
        return None
    heading, whole = texts[0].splitlines()[:1], folder / f"{ending.lstrip('_')}.csv"
    write_text(whole, "\n".join([*heading, *(line for text in texts for line in text.splitlines()[1:])]) + "\n")
    return whole


def require_pairs(path: Path, rows: Iterable[tuple[int, Sequence[str]]], heading: Sequence[str]) -> None:
    """Raise `InputError` that lists the numbered rows of a table which do not have one value for each of two columns."""
    raise_faults(
        Fault(
            f"{path}: line {number}", f"`{','.join(row)}` is not `{','.join(heading)}`", "Write two values, separated by a comma"
        )
        for number, row in rows
        if len(row) != len(heading) or not all(row)
    )
