"""The program that watches memory over many cases."""

from pathlib import Path

from benchmarks.cost.load import Memory, draw, summarise, work_on


def test_every_case_of_every_stage_is_noted(tmp_path: Path) -> None:
    memory = Memory()
    work_on(tmp_path, 3, 16, memory)
    assert len(memory.stages) == 3 and all(len(noted) == 3 for noted in memory.stages.values())
    draw(memory, tmp_path / "load.svg")
    assert "</svg>" in (tmp_path / "load.svg").read_text()


def test_growth_is_seen() -> None:
    assert summarise("x", [100 * 2**20] * 100, 1.0)["ratio"] == 1
    growing = [(100 + index) * 2**20 for index in range(100)]
    assert float(summarise("x", growing, 1.0)["ratio"]) > 1.5
