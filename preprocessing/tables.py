"""Tables as CSV files."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from configs.files import write_text


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write CSV with a heading and a line for each row, whole or not at all; None is left empty, numbers keep all digits."""
    import pandas as pd  # takes half a second to load, and only some commands write tables

    table = pd.DataFrame(list(rows), columns=list(columns), dtype=object)
    write_text(path, table.to_csv(index=False, lineterminator="\n"))
