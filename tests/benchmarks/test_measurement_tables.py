"""Measurements are kept as tables without losing a value."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.common.measurement_tables import read_table, rows_of, write_table

NAMES = st.text("abcde_0.8", min_size=1, max_size=6)
WORDS = st.text("nonumber", min_size=1)
VALUES = st.one_of(
    st.integers(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False), WORDS, st.lists(st.floats(0, 1))
)
ROWS = st.lists(st.fixed_dictionaries({"a": VALUES, "dice": st.dictionaries(NAMES, VALUES, min_size=1)}), min_size=1, max_size=4)


@given(rows=ROWS)
def test_a_table_gives_back_what_was_written(rows: list[dict], tmp_path_factory) -> None:
    path = tmp_path_factory.mktemp("table") / "table.csv"
    write_table(rows, path)
    assert read_table(path) == rows


def test_rows_carry_the_facts_of_their_result(tmp_path: Path) -> None:
    result = {"torch": "2.13.0", "rows": [{"network": "se"}, {"network": "baseline", "torch": "other"}]}
    assert rows_of(result) == [{"torch": "2.13.0", "network": "se"}, {"torch": "other", "network": "baseline"}]
    assert rows_of({"network": "se", "dice": {"1": 0.8}}) == [{"network": "se", "dice": {"1": 0.8}}]
