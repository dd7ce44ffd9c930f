"""The measurement of default prediction on unseen cases: what it keeps, and what its tables make of it."""

from pathlib import Path

import pytest

from benchmarks.sizes import unseen_sizes
from configs.files import read_json, write_json
from tests.inference.evaluation.test_calibration_on_cases import write_raw
from tests.inference.models import LABELS, write_model


@pytest.mark.slow
def test_cases_are_measured_once_and_summed_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset, model = write_raw(tmp_path / "data", dict(LABELS.labels)), write_model(tmp_path / "model", ("0",))
    results, table = tmp_path / "toy.json", tmp_path / "table.csv"
    words = ["measure", str(model), str(dataset), str(results), "--images", "Tr", "--most", "2", "--no-mirror", "--controls"]
    assert unseen_sizes.main([*words, "--sizes", "1"]) == 0
    first = read_json(results)
    assert unseen_sizes.main([*words, "--sizes", "1", "0.8"]) == 0
    found = read_json(results)
    assert found[: len(first)] == first and [row["size"] for row in found[len(first) :]] == [0.8, 0.8]
    assert unseen_sizes.main(["tables", str(results), "--sizes-csv", str(table)]) == 0
    assert "toy" in capsys.readouterr().out and len(table.read_text().splitlines()) == 3


def test_the_expected_dice_is_judged_over_all_sizes(tmp_path: Path) -> None:
    def row(size: object, expected: float, dice: float, low: float) -> dict[str, object]:
        labels = {"a": [expected, low, 1.0]}
        return {"case": "c", "size": size, "expected": expected, "labels": labels, "found_size": 1.0, "doubts": ["x"]} | (
            {} if size == "blank" else {"dice": {"a": dice}, "without_search": {"a": dice}}
        )

    write_json(tmp_path / "r.json", [row(1.0, 0.9, 0.8, 0.7), row(0.5, 0.6, 0.4, 0.5), row("blank", 0.0, 0.0, 0.0)])
    (found,) = unseen_sizes.quality_rows(tmp_path / "r.json")
    assert found["error"] == pytest.approx(0.15) and found["error_at_natural_size"] == pytest.approx(0.1)
    assert (found["in_interval"], found["worst_tenth_in_lowest_fifth"], found["controls_flagged"]) == (0.5, 1.0, "1 of 1")
    assert found["correlation"] == pytest.approx(1)
