"""The part of the GPU check that compares fused kernels with PyTorch's operators finds those that differ, and says why not elsewhere."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.gpu import check
from benchmarks.gpu.kernels import _step, compare, pieces
from benchmarks.gpu.setting import Result, Setting
from configs.files import read_json
from se_unet.layers.fused.choice import asked_kernels

CPU = torch.device("cpu")


def setting(folder: Path) -> Setting:
    return Setting(CPU, False, folder, folder)


def differing(by: float) -> Callable[[], list[Tensor]]:
    """An action whose second tensor differs by a share with fused kernels."""
    return lambda: [torch.ones(3), torch.tensor([1.0, -4.0]) * (1 + by * (asked_kernels() == "fused"))]


@pytest.mark.parametrize("before", [None, "auto", "plain"])
def test_a_kernel_that_differs_is_found(before: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what the environment asked for before is asked for again."""
    monkeypatch.delenv("SE_UNET_KERNELS", raising=False)
    if before is not None:
        monkeypatch.setenv("SE_UNET_KERNELS", before)
    result = Result()
    for by in (0.0, 0.005, 0.02):
        compare(result, f"by {by}", differing(by), 0.01, setting(tmp_path))
    assert [row["holds"] for row in result.checks] == [True, True, False]
    assert [row["value"] for row in result.checks] == pytest.approx([0, 0.005, 0.02], abs=1e-6)
    assert all(row["fused_ms"] > 0 and row["plain_ms"] > 0 for row in result.figures)
    assert os.environ.get("SE_UNET_KERNELS") == before


def test_a_kernel_that_gives_no_number_is_found(tmp_path: Path) -> None:
    result = Result()
    compare(result, "NaN", differing(float("nan")), 0.01, setting(tmp_path))
    assert not result.checks[0]["holds"]


def test_every_piece_has_results_and_gradients(tmp_path: Path) -> None:
    found = {name: action() for name, _, action in pieces(CPU, 4, 2)} | {"step": _step(setting(tmp_path), None)()}
    assert len(found) == 3 * 6 + 1
    assert all(len(tensors) >= 2 and all(one.isfinite().all() and one.any() for one in tensors) for tensors in found.values())


def test_without_a_gpu_it_says_why_not(tmp_path: Path) -> None:
    assert check.main(["kernels", "--device", "cpu", "--folder", str(tmp_path)]) == 0
    (found,) = read_json(tmp_path / "gpu.json").values()
    assert found["state"] == "skipped" and "Triton's interpreter" in found["why"]
