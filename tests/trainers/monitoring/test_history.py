"""The log: numbers as a table, missing ones as empty cells, and a picture."""

import math
from pathlib import Path

import pandas as pd

from trainers.monitoring.history import EpochRecord, History


def record(epoch: int, validated: bool) -> EpochRecord:
    dice = 0.5 if validated else math.nan
    return EpochRecord(
        epoch, 0.01, 1.0 / epoch, dice, {"liver": dice, "absent": math.nan}, dice, dice, math.nan, 0, 2.5, 0.1, 1e9
    )


def test_table_leaves_what_was_not_measured_empty(tmp_path: Path) -> None:
    history = History()
    history.append(record(1, True))
    history.append(record(2, False))
    history.write_table(tmp_path / "log.csv")
    table = pd.read_csv(tmp_path / "log.csv")
    assert table["pseudo_dice_liver"].isna().tolist() == [False, True]
    assert table["pseudo_dice_absent"].isna().all()
    assert table["data_wait_share"].tolist() == [0.1, 0.1]
    assert ",nan" not in (tmp_path / "log.csv").read_text()


def test_rows_of_a_checkpoint_go_on(tmp_path: Path) -> None:
    first = History()
    first.append(record(1, True))
    second = History(first.rows)
    second.append(record(2, True))
    assert [row["epoch"] for row in second.rows] == [1, 2]
    assert [row["epoch"] for row in first.rows] == [1]


def test_picture_is_drawn_even_where_little_was_measured(tmp_path: Path) -> None:
    history = History()
    history.append(record(1, False))
    history.append(record(2, True))
    history.write_picture(tmp_path / "progress.png")
    assert (tmp_path / "progress.png").read_bytes().startswith(b"\x89PNG")


def test_summary_shows_missing_values_as_such() -> None:
    text = record(3, False).summary(10)
    assert text.startswith("epoch 3/10: loss 0.3333, validation loss -")
    assert "absent -" in text
    assert "10% of the time waiting for data" in text
