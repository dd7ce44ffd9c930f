"""One log file for each run, beside what it makes."""

import argparse
import hashlib
import json
import logging
import sys
from pathlib import Path

import pytest

from configs import cli
from configs.errors import Fault, InputError
from configs.run_log import RunLog, digest, digests

LOGGER = logging.getLogger("planners.anything")


def run(
    monkeypatch: pytest.MonkeyPatch, folder: Path, outcome: Exception | None = None, *options: str, refuses_late: bool = False
) -> tuple[int, list[str]]:
    """A command that makes the folder and works there. Returns its exit code and the lines of its log."""

    def work(_: None) -> int:
        cli.keep_log(folder, plan=[Path("plan.json")], seeds="7")
        LOGGER.info("before there is a folder")
        if isinstance(outcome, InputError) and not refuses_late:
            raise outcome
        folder.mkdir()
        LOGGER.debug("a detail")
        if outcome is not None:
            raise outcome
        return 0

    monkeypatch.setattr(sys, "argv", ["/usr/bin/se_nothing", "a b", *options])
    parser = argparse.ArgumentParser("se_nothing")
    parser.add_argument("dataset")
    code = cli.run(parser, lambda _: None, work)
    found = list(folder.glob("logs/se_nothing_*.log"))
    assert len(found) <= 1 and not cli._logs
    return code, found[0].read_text(encoding="utf-8").splitlines() if found else []


def test_it_tells_what_ran_where_and_how_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, lines = run(monkeypatch, tmp_path / "made", None, "--quiet")
    assert code == 0
    heading = dict(line.split(": ", 1) for line in lines[:7])
    assert heading["command"] == "se_nothing 'a b' --quiet"
    assert f"Python {sys.version.split()[0]}" in heading["versions"] and "torch 2." in heading["versions"]
    assert "cores" in heading["machine"] and "GiB of memory" in heading["machine"]
    assert heading["plan"] == "plan.json, SHA-256 unreadable" and heading["seeds"] == "7"
    assert lines[7].endswith("INFO planners.anything: before there is a folder"), "what was told early is there, --quiet or not"
    assert lines[8].endswith("DEBUG planners.anything: a detail")
    assert lines[9].startswith("ended with 0 after ") and len(lines) == 10


def test_a_refused_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, tmp_path / "made", InputError(Fault("a", "b", "c"))) == (2, [])
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_refused_late_tells_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = InputError(Fault("a", "b", "c"), Fault("d", "e", "f"))
    code, lines = run(monkeypatch, tmp_path / "made", refused, refuses_late=True)
    assert code == 2 and lines[-4:-1] == ["faults in the input:", "a: b. c.", "d: e. f."]


def test_a_failed_run_keeps_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = run(monkeypatch, tmp_path / "made", RuntimeError("no space"))
    assert code == 1 and "Traceback (most recent call last):" in lines and lines[-1].startswith("ended with 1")
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "RuntimeError" in line]
    assert said.startswith("se_nothing: RuntimeError: no space (traceback in ") and "Traceback" not in said


def test_a_log_that_cannot_be_written_stops_no_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = RunLog(tmp_path, ["x"])
    (tmp_path / "logs").write_text("a file in its way")
    log.note("first")
    log.note("second")
    log.end(0)
    assert (tmp_path / "logs").read_text() == "a file in its way"


def test_odd_characters_are_written(tmp_path: Path) -> None:
    log = RunLog(tmp_path, ["x", "\udcff", "größer"])
    log.end(0)
    assert "größer" in log.path.read_text(encoding="utf-8") and "\\udcff" in log.path.read_text(encoding="utf-8")


def test_digests_tell_files_apart(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(json.dumps(1))
    (tmp_path / "b").write_text(json.dumps(2))
    assert len(digest(tmp_path / "a")) == 64 and digest(tmp_path / "a") != digest(tmp_path / "b")
    assert digest(tmp_path / "none") == "unreadable"
    (tmp_path / "long").write_bytes(bytes(9 * 1024 * 1024))
    assert digest(tmp_path / "long") == hashlib.sha256(bytes(9 * 1024 * 1024)).hexdigest()
    assert digests([tmp_path / "none", tmp_path]) == f"{tmp_path / 'none'}, SHA-256 unreadable, {tmp_path}, SHA-256 unreadable"


def test_a_folder_that_cannot_be_looked_into_stops_no_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", forbid)
    log = RunLog(tmp_path, ["x"])
    log.note("first")
    log.end(0)
    assert list(tmp_path.iterdir()) == []
