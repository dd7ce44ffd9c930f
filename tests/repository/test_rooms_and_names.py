"""The house is easy to enter: a folder has at most 15 entries, and a public name means one thing in all packages."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

from tests.repository.test_imports import PACKAGES, ROOT

MOST = 15
# Entry points of commands; and small functions of kernels that Triton compiles, which are called within their module alone.
SHARED = {"main", "multiply_adds", "normalise", "Matrices"}
SHARED |= {"suits", "launch", "launch_backward", "propagate"}  # what each module of a fused kernel has


def entries(folder: Path) -> list[str]:
    """Names in a folder, without what Python and its tools leave there."""
    return [path.name for path in folder.iterdir() if not path.name.startswith(("__pycache__", "."))]


def large_folders(top: Path) -> list[str]:
    """The folder and those below it that have too many entries."""
    folders = [top, *(path for path in top.rglob("*") if path.is_dir() and "__pycache__" not in path.parts)]
    return [f"{folder}: {len(entries(folder))}" for folder in folders if len(entries(folder)) > MOST]


def public_names(source: str) -> list[str]:
    """Names of the classes, functions and types that a module defines; constants, variables of types and loggers aside."""
    names = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [
                target.id for target in node.targets if isinstance(target, ast.Name) and target.id[1:] != target.id[1:].upper()
            ]
    return [name for name in names if not name.startswith("_") and name != "logger"]


@pytest.mark.parametrize("top", [*PACKAGES, "benchmarks", "docs", "tests"])
def test_folders_are_small(top: str) -> None:
    assert large_folders(ROOT / top) == []


def test_the_guard_sees_a_large_folder(tmp_path: Path) -> None:
    for number in range(MOST + 1):
        (tmp_path / "room" / f"{number}.py").parent.mkdir(exist_ok=True)
        (tmp_path / "room" / f"{number}.py").touch()
    assert large_folders(tmp_path) == [f"{tmp_path / 'room'}: 16"]


def test_a_name_means_one_thing() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for name in public_names(path.read_text(encoding="utf-8")):
                places[name].append(str(path.relative_to(ROOT)))
    assert {name: files for name, files in places.items() if len(files) > 1 and name not in SHARED} == {}


def test_public_names_are_found() -> None:
    source = "A = 1\nLIMIT, Shape = 2, 3\nShape = tuple[int]\nlogger = 1\nT = 2\ndef f(): ...\nclass _B: ...\nclass C: ..."
    assert public_names(source) == ["Shape", "f", "C"]
