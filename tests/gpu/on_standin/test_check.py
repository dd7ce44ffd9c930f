"""The program for real GPUs runs whole on the stand-in."""

from pathlib import Path

import pytest
import torch

from benchmarks.gpu import check
from configs.files import read_json
from tests.gpu.standin.ledger import Ledger

PARTS = [
    name for name in check.PARTS if name not in ("hippocampus", "two_processes")
]  # these start processes without the stand-in


@pytest.mark.thorough
def test_all_parts_hold(gpu: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check.main([*PARTS, "two_processes", "--folder", str(tmp_path), "--stand-in"]) == 0
    found = read_json(tmp_path / "gpu.json")
    assert {name: one["state"] for name, one in found.items()} == dict.fromkeys(PARTS, "done") | {
        "running_out": "skipped",
        "two_processes": "skipped",
    }
    assert all(row["holds"] for one in found.values() for row in one["checks"])
    assert not any(one["real"] for one in found.values())
    assert "times mean nothing" in (tmp_path / "gpu.md").read_text(encoding="utf-8")


def test_a_part_that_fails_leaves_the_others(gpu: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(setting: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(check, "PARTS", {"labels": broken, "two_processes": check.PARTS["two_processes"]})
    assert check.main(["--folder", str(tmp_path), "--stand-in"]) == 1
    found = read_json(tmp_path / "gpu.json")
    assert found["labels"]["state"] == "failed" and "out of memory" in found["labels"]["why"]
    assert found["two_processes"]["state"] == "skipped"
