"""What the tests of whole commands share."""

import sys
from collections.abc import Callable

import pytest


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """A command line, as its exit code."""

    def call(command: Callable[[], int], *words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["command", *map(str, words)])
        return command()

    return call
