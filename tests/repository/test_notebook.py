"""The tutorial's notebook runs from its first cell to its last, with little data and few steps."""

import json
from pathlib import Path
from typing import Any

import matplotlib
import pytest

from tests.repository.test_imports import ROOT

NOTEBOOK = ROOT / "docs" / "getting_started" / "tutorial.ipynb"
SMALL = {"cases": 5, "unseen": 1, "epochs": 1, "iterations": 2}


def cells(kind: str) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "notebook"}
    for cell in cells("code"):
        exec(compile("".join(cell["source"]), str(NOTEBOOK), "exec"), names)
        if "parameters" in cell["metadata"].get("tags", []):
            assert set(SMALL) <= set(names), "the parameters that the test makes smaller"
            names |= SMALL
    assert list(names["result"].cases) == ["phantom_005"] and len(names["log"]) == 1
    assert [path.name for path in (tmp_path / "tutorial_output" / "predictions").glob("*.nii.gz")] == ["phantom_005.nii.gz"]


def test_the_notebook_is_kept_without_outputs() -> None:
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells("code"))
