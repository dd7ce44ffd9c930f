"""Store the results of measuring programs as one CSV table, the form in which docs/measurements keeps them.

    python -m benchmarks.common.measurement_tables RESULT.json [MORE.json ...] -o docs/measurements/evidence/few_cases.csv

Results of single runs become one row each. A result with `rows` becomes these rows, each of which
repeats its other entries (device, versions, arguments). Nested values have columns such as `dice/none/0.8`, and lists are written as JSON.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.common.tables import write_csv
from configs.files import read_json

Row = dict[str, Any]


def main() -> int:
    """Write the table. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, help="JSON files that programs of `benchmarks` wrote")
    parser.add_argument("-o", "--output", type=Path, required=True, help="CSV file to write")
    arguments = parser.parse_args()
    write_table([row for path in sorted(arguments.results) for row in rows_of(read_json(path))], arguments.output)
    return 0


def rows_of(result: Mapping[str, Any]) -> list[Row]:
    """Return the rows of one result: its `rows`, each with all other facts of the result, or the result itself."""
    facts = {name: value for name, value in result.items() if name != "rows"}
    return [{**facts, **row} for row in result["rows"]] if "rows" in result else [facts]


def write_table(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write rows of nested values as a CSV file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv([_flat(row) for row in rows], path)


def read_table(path: Path) -> list[Row]:
    """Read rows of nested values from a CSV file; the inverse of `write_table`, except that empty cells are left out."""
    table = pd.read_csv(path, dtype=object, keep_default_na=False)
    return [_nested({str(name): cell for name, cell in row.items() if cell != ""}) for row in table.to_dict("records")]


def _flat(row: Mapping[str, Any], prefix: str = "") -> Row:
    cells: Row = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            cells |= _flat(value, f"{prefix}{name}/")
        elif value is not None:
            cells[f"{prefix}{name}"] = value if isinstance(value, str) else json.dumps(value)
    return cells


def _nested(cells: Mapping[str, str]) -> Row:
    row: Row = {}
    for name, cell in cells.items():
        *parents, last = name.split("/")
        place = row
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = _value(cell)
    return row


def _value(cell: str) -> Any:
    try:
        return json.loads(cell)
    except json.JSONDecodeError:
        return cell


if __name__ == "__main__":
    sys.exit(main())
