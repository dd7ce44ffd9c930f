"""Commands survive injected faults, and the injection itself detects violations."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("the faults are Linux's", allow_module_level=True)

from tests.faults.__main__ import choose_faults
from tests.faults.child import run_forked
from tests.faults.commands import COMMANDS
from tests.faults.judge import broken_files, contents, differences

ROOT = Path(__file__).parents[2]
forking = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.mark.slow
def test_a_selection_of_the_faults(tmp_path: Path) -> None:
    """One fault of each kind in prediction and import. `make faults` injects about 500 into all commands."""
    words = [sys.executable, "-m", "tests.faults", "--share", "0.1", "-o", str(tmp_path / "faults.json")]
    words += ["--commands", "predict", "bundle import"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "faults.json").read_text())
    assert found["faults"] == 26 and found["broken"] == found["left"] == 0
    assert {outcome["code"] for outcome in found["outcomes"]} >= {0, 1, -signal.SIGKILL}


@pytest.mark.slow
@pytest.mark.parametrize(
    "share", [pytest.param(0.1, marks=pytest.mark.thorough, id="share"), pytest.param(1.0, marks=pytest.mark.faults, id="all")]
)
@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_each_command_survives_its_faults(tmp_path: Path, command: str, share: float) -> None:
    words = [
        sys.executable,
        "-m",
        "tests.faults",
        "--share",
        str(share),
        "--commands",
        command,
        "-o",
        str(tmp_path / "faults.json"),
    ]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "faults.json").read_text())
    assert found["faults"] > 0 and found["broken"] == found["left"] == 0


def test_equal_seeds_give_the_same_faults() -> None:
    faults = {command.name: choose_faults(command, True, 1.0, 0) for command in COMMANDS}
    assert sum(map(len, faults.values())) >= 200
    assert faults == {command.name: choose_faults(command, True, 1.0, 0) for command in COMMANDS}
    kinds = {fault.kind for fault in choose_faults(COMMANDS[0], mounts=False, share=1.0, seed=0)}
    assert "file size limit" in kinds and "disk full" not in kinds


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plan.json", b'{"a": 1'),
        ("weights.safetensors", b"\x40\x00\x00\x00\x00\x00\x00\x00{"),
        ("case.nii.gz", b"\x1f\x8b\x08"),
        ("log.csv", b"epoch,loss\n1,2\n3"),
        ("checkpoint.pt", b"PK\x03\x04"),
        ("report.html", b"<html><body>"),
    ],
)
def test_half_written_files_are_seen(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / f".partial-x-{name}").write_bytes(content)
    assert broken_files(tmp_path) == [] and contents(tmp_path) == {}
    (tmp_path / name).write_bytes(content)
    (broken,) = broken_files(tmp_path)
    assert broken.startswith(f"{name}: ")


def test_differences_are_seen(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("1")
    (tmp_path / "log.csv").write_text("epoch,loss,seconds\n1,0.5,10\n")
    before = contents(tmp_path)
    (tmp_path / "log.csv").write_text("epoch,loss,seconds\n1,0.5,11\n")
    assert differences(contents(tmp_path), before) == [], "times do not count"
    (tmp_path / "log.csv").write_text("epoch,loss,seconds\n1,0.6,10\n")
    (tmp_path / "b.json").write_text("1")
    (tmp_path / "a.json").unlink()
    assert differences(contents(tmp_path), before) == ["a.json is missing", "b.json is not expected", "log.csv differs"]


@forking
def test_hanging_crashing_and_orphaned_processes_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setattr("tests.faults.child._ORPHANS", 0.2)

    def leave_one_behind() -> int:
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        return 0

    def hang() -> int:
        time.sleep(60)
        return 0

    def fail() -> int:
        raise ValueError("no")

    log = tmp_path / "log"
    assert run_forked(["x"], hang, log, 0.3).code is None
    assert run_forked(["x"], lambda: os.kill(os.getpid(), signal.SIGKILL) or 0, log, 30).code == -signal.SIGKILL
    assert run_forked(["x"], fail, log, 30).code == 1
    assert run_forked(["x"], leave_one_behind, log, 30).orphans == 1
