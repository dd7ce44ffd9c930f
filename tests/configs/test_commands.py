"""Exit codes and what is printed, the same for every command."""

import argparse
import sys

import pytest

from configs.cli import DONE, FAILED, INTERRUPTED, WRONG_INPUT, Bar, run
from configs.errors import Fault, InputError
from configs.progress import Silent


def exit_code(monkeypatch: pytest.MonkeyPatch, outcome: BaseException | int | None, *arguments: str) -> int:
    """Run a command that ends with `outcome`, raised or returned."""

    def work(_: None) -> int | None:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr(sys, "argv", ["se_nothing", *arguments])
    return run(argparse.ArgumentParser("se_nothing"), lambda _: None, work)


def test_done(monkeypatch: pytest.MonkeyPatch) -> None:
    assert exit_code(monkeypatch, None) == DONE == 0


def test_wrong_input_prints_one_line_for_each_fault(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    error = InputError(Fault("a", "is wrong", "Mend it"), Fault("b", "is too", "Mend it"))
    assert exit_code(monkeypatch, error) == WRONG_INPUT == 2
    assert capsys.readouterr().err.splitlines() == [
        "se_nothing: 2 faults in the input",
        "  - a: is wrong. Mend it.",
        "  - b: is too. Mend it.",
    ]


def test_anything_else_is_one_line_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(monkeypatch, RuntimeError("no space")) == FAILED == 1
    assert capsys.readouterr().err == "se_nothing: RuntimeError: no space (run again with --verbose for the traceback)\n"


def test_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    assert exit_code(monkeypatch, KeyboardInterrupt()) == INTERRUPTED == 130


def test_unknown_option_is_wrong_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        exit_code(monkeypatch, None, "--colour")
    assert caught.value.code == WRONG_INPUT
    assert "--colour" in capsys.readouterr().err


@pytest.mark.parametrize("progress", [Bar(), Bar(quiet=True), Silent()])
def test_progress_yields_every_item_in_order(progress: Bar | Silent, capsys: pytest.CaptureFixture[str]) -> None:
    progress.note("loss 0.5")
    assert list(progress.track("abc", "letters", 3)) == ["a", "b", "c"]
    assert capsys.readouterr().out == ""


def test_bar_prints_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Bar()
    bar.note("loss 0.5")
    list(bar.track("abc", "letters", 3))
    assert capsys.readouterr().err == "letters: 3/3, 0 s left  loss 0.5\n"
