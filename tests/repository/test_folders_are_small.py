"""A folder shows what is in it at first sight: it has at most 15 entries."""

from pathlib import Path

import pytest

from tests.repository.test_imports import PACKAGES, ROOT

MOST = 15


def entries(folder: Path) -> list[str]:
    """Names in a folder, without what Python and its tools leave there."""
    return [path.name for path in folder.iterdir() if not path.name.startswith(("__pycache__", "."))]


def large_folders(top: Path) -> list[str]:
    """The folder and those below it that have too many entries."""
    folders = [top, *(path for path in top.rglob("*") if path.is_dir() and "__pycache__" not in path.parts)]
    return [f"{folder}: {len(entries(folder))}" for folder in folders if len(entries(folder)) > MOST]


@pytest.mark.parametrize("top", [*PACKAGES, "tests"])
def test_folders_are_small(top: str) -> None:
    assert large_folders(ROOT / top) == []


def test_the_guard_sees_a_large_folder(tmp_path: Path) -> None:
    for number in range(MOST + 1):
        (tmp_path / "room" / f"{number}.py").parent.mkdir(exist_ok=True)
        (tmp_path / "room" / f"{number}.py").touch()
    assert large_folders(tmp_path) == [f"{tmp_path / 'room'}: 16"]
