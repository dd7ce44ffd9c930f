"""The large case, small: the same commands, and a limit that is kept."""

import json
import sys
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("memory of processes is read as on Linux", allow_module_level=True)

from benchmarks.cost import big_volume


@pytest.mark.slow
def test_all_stages_run_and_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["big_volume", "--shape", "40", "36", "36", "--folder", str(tmp_path / "made"), "-o", str(tmp_path / "found.json")]
    monkeypatch.setattr(sys, "argv", [*words, "--stages", "make", "prepare"])
    assert big_volume.main() == 0
    monkeypatch.setattr(sys, "argv", [*words, "--stages", "predict"])
    assert big_volume.main() == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert [row["stage"] for row in found["rows"]] == ["make", "prepare", "predict"] and found["voxels"] == 51840
    assert all(row["ended_with"] == 0 for row in found["rows"])
    assert all(0.05 < row["peak_GiB"] < 4 for row in found["rows"][1:])
    assert (tmp_path / "made/segmentations/large.nii.gz").is_file()


def test_a_command_that_takes_too_much_is_ended_with_its_children() -> None:
    greedy = "x = bytearray(400 * 2**20); x[::4096] = b'1' * len(x[::4096]); import time; time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {greedy!r}])"
    watched = big_volume.watch([sys.executable, "-c", parent], 200 * 2**20)
    assert watched.code is None and watched.peak > 200 * 2**20 and watched.seconds < 50
    frugal = big_volume.watch([sys.executable, "-c", "raise SystemExit(3)"], 200 * 2**20)
    assert frugal.code == 3 and 0 < frugal.peak < 200 * 2**20
