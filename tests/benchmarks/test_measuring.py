"""The programs that measure run, compare fairly, and write what they print."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.common.rounds import median_ratio, time_in_turn
from benchmarks.common.tables import text_table
from benchmarks.cost import layers, networks, prediction_memory
from configs.files import read_json
from se_unet import build_network
from se_unet.cost import multiply_adds


def test_ratios_are_taken_within_the_rounds() -> None:
    reference = [1.0, 1.0, 10.0]  # the machine was busy in the last round
    assert median_ratio([2.0, 2.0, 20.0], reference) == 2


def test_actions_take_turns_and_the_first_round_does_not_count() -> None:
    order: list[str] = []
    actions = {name: lambda name=name: order.append(name) for name in "ab"}  # type: ignore[misc]
    seconds = time_in_turn(actions, 2, torch.device("cpu"))
    assert order == ["a", "b"] * 3
    assert [len(seconds[name]) for name in "ab"] == [2, 2]


def test_tables_leave_out_what_was_not_measured() -> None:
    table = text_table([{"name": "a", "time_ms": 12.345}, {"name": "long", "time_ms": None}], {"name": "{}", "time_ms": "{:.1f}"})
    assert table.splitlines() == ["name  time ms", "a        12.3", "long"]


def test_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layers.main(["--channels", "2", "--size", "8", "--rounds", "1", "--seeds", "0", "--output", str(tmp_path / "layers.json")])
    rows: list[dict[str, Any]] = read_json(tmp_path / "layers.json")["rows"]
    assert [row["layer"] for row in rows] == list(layers.layers_of(1))
    assert all(row["forward_ms"] > 0 and row["step_ms"] > 0 and row["kept_mb"] > 0 for row in rows)
    assert rows[0]["forward_ratio"] == rows[0]["step_ratio"] == 1
    printed = capsys.readouterr().out
    assert all(row["layer"] in printed for row in rows)


def test_networks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--features", "2", "--patch", "16", "16", "16", "--batch", "1", "--rounds", "1", "--seeds", "0"]
    networks.main([*arguments, "--output", str(tmp_path / "networks.json")])
    rows: list[dict[str, Any]] = read_json(tmp_path / "networks.json")["rows"]
    assert [row["network"] for row in rows] == list(networks.NETWORKS)
    assert all(sum(row["kept_per_scale_mb"]) == pytest.approx(row["kept_mb"], abs=0.2) for row in rows)
    assert all(row["checkpointed_mb"] < row["kept_mb"] for row in rows)
    assert "pyramid, 4 scales" in capsys.readouterr().out


def test_networks_are_given_equal_multiply_adds() -> None:
    shape = (1, 1, 16, 16, 16)
    wanted = multiply_adds(build_network(networks.describe("plain", 16)), shape)
    chosen = networks.equal_cost("se, 4 scales", wanted, shape)
    assert multiply_adds(build_network(chosen), shape) == pytest.approx(wanted, rel=0.15)


@pytest.mark.slow
def test_memory_of_a_command_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    words = [
        "--classes",
        "3",
        "6",
        "--shape",
        "20",
        "24",
        "24",
        "--features",
        "4",
        "8",
        "--patch",
        "16",
        "-o",
        tmp_path / "m.json",
    ]
    monkeypatch.setattr(sys, "argv", ["prediction_memory", *map(str, words)])
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    assert prediction_memory.main() == 0
    rows = read_json(tmp_path / "m.json")["rows"]
    assert [row["classes"] for row in rows] == [3, 6] and all(0.1 < row["peak_GiB"] < 4 for row in rows)
    assert "growth from 3 to 6 classes" in capsys.readouterr().out
