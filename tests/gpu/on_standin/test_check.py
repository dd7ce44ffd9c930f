"""The program for real GPUs runs whole on the stand-in."""

import shutil
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import check
from configs.files import read_json, write_json
from tests.gpu.standin.ledger import Ledger

PARTS = [name for name in check.PARTS if name != "hippocampus"]
DATA = Path(__file__).parents[4] / "shared/data/Dataset004_Hippocampus"


@pytest.mark.thorough
def test_all_parts_hold(gpu: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SE_UNET_KERNELS", "plain")  # which kernels are faster on the stand-in is chance
    assert check.main([*PARTS, "--folder", str(tmp_path), "--stand-in"]) == 0
    found = read_json(tmp_path / "gpu.json")
    assert {name: one["state"] for name, one in found.items()} == dict.fromkeys(PARTS, "done") | {
        "kernels": "skipped",
        "running_out": "skipped",
        "two_processes": "skipped",
    }
    assert all(row["holds"] for one in found.values() for row in one["checks"])
    assert not any(one["real"] for one in found.values())
    assert "times mean nothing" in (tmp_path / "gpu.md").read_text(encoding="utf-8")


@pytest.mark.thorough
@pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is not there")
def test_the_real_training_runs(gpu: Ledger, tmp_path: Path) -> None:
    """On eight cases: half precision is slow on CPUs."""
    data = tmp_path / "raw" / DATA.name
    for kind, ending in (("imagesTr", "_0000.nii.gz"), ("labelsTr", ".nii.gz")):
        (data / kind).mkdir(parents=True)
        for label in sorted((DATA / "labelsTr").glob("*.nii.gz"))[:8]:
            name = label.name.removesuffix(".nii.gz") + ending
            shutil.copy(DATA / kind / name, data / kind / name)
    write_json(data / "dataset.json", read_json(DATA / "dataset.json") | {"numTraining": 8})
    assert check.main(["hippocampus", "--folder", str(tmp_path), "--data", str(data), "--stand-in"]) == 0
    (found,) = read_json(tmp_path / "gpu.json").values()
    assert found["state"] == "done" and [row["network"] for row in found["figures"]] == ["baseline", "se"]


def test_a_part_that_fails_leaves_the_others(gpu: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(setting: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(check, "PARTS", {"labels": broken, "two_processes": check.PARTS["two_processes"]})
    assert check.main(["--folder", str(tmp_path), "--stand-in"]) == 1
    found = read_json(tmp_path / "gpu.json")
    assert found["labels"]["state"] == "failed" and "out of memory" in found["labels"]["why"]
    assert found["two_processes"]["state"] == "skipped"
