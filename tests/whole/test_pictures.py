"""The commands on colour pictures, as the page docs/how_to/pictures.md shows them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.demo.cells import LABELS, write_cells
from configs.plan import Plan
from inference.evaluation import cli as evaluate_cli
from inference.prediction import cli as predict_cli
from inference.report import cli as report_cli
from planners import cli as planners_cli
from preprocessing.formats.images import read_image
from trainers import cli as trainers_cli

pytestmark = pytest.mark.slow

TINY = ["--preset", "quick", "--epochs", "1", "--iterations", "2", "--workers", "0", "--batch-size", "1", "--device", "cpu"]
SMALL = ["--set", "base_features=2", "validation_iterations=1", "mirror=false"]


def test_from_pictures_to_a_report(tmp_path: Path, run: Callable[..., int]) -> None:
    write_cells(tmp_path / "Cells", training=4, unseen=2, side=32)
    work, output, model = tmp_path / "work", tmp_path / "out", tmp_path / "work/Cells/models/2d_baseline"
    assert run(planners_cli.main, tmp_path / "Cells", "--work", work, "--jobs", "1", "--network", "baseline", "--quiet") == 0
    planned = Plan.read(work / "Cells/plan.json").configurations
    assert list(planned) == ["2d"] and [channel.scheme for channel in planned["2d"].normalisation] == ["rgb"] * 3
    words = ["Cells", "--work", work, "--configuration", "2d", "--network", "baseline", "--fold", "0", *TINY, *SMALL, "--quiet"]
    assert run(trainers_cli.main, *words) == 0

    images = tmp_path / "Cells/imagesTs"
    png = images / "cells_004_0000.png"
    Image.open(png).save(images / "photo_0000.jpg", quality=95)
    options = ["--device", "cpu", "--fast", "--preview", "--features", "--save-uncertainty", "--quiet"]
    assert run(predict_cli.main, "-i", images, "-o", output, "-m", model, *options) == 0
    assert read_image([output / "photo_entropy.tif"])[0].shape == (1, 1, 32, 32)
    for case in ("cells_004", "photo"):  # what JPEG cannot hold is written as PNG
        labels = np.asarray(Image.open(output / f"{case}.png"))
        assert labels.shape == (32, 32) and labels.dtype == np.uint8 and set(np.unique(labels)) <= set(LABELS.values())
    assert run(predict_cli.main, "-i", images / "photo_0000.jpg", "-o", tmp_path / "a.jpg", "-m", model, "--quiet") == 2
    for path in output.glob("photo*"):
        path.unlink()
    assert colourfulness(output / "cells_004_preview.png") > 5
    assert run(evaluate_cli.main, output, tmp_path / "Cells/labelsTs", "--quiet") == 0
    assert list(json.loads((output / "metrics.json").read_text())["cases"]) == ["cells_004", "cells_005"]
    assert run(report_cli.main, model, "--no-equivariance", "--quiet") == 0
    assert "show the colours" in (model / "report.html").read_text()


def colourfulness(path: Path) -> float:
    """The mean difference between red and blue of a picture."""
    pixels = np.asarray(Image.open(path).convert("RGB"), float)
    return float(np.abs(pixels[..., 0] - pixels[..., 2]).mean())
