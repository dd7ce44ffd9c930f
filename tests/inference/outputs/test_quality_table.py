"""What is expected of segmentations is written beside them, and doubtful cases are named."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from inference import PredictionOptions, Predictor, predict_cases
from inference.outputs.quality_table import caption, gather_quality, write_quality
from inference.prediction.outputs import Extras, plan_outputs
from inference.sizes.calibration import Expected
from inference.sizes.quality import Quality
from preprocessing.formats.images import write_scalar
from preprocessing.geometry.affine import Geometry
from tests.inference.sizes.test_search import RADIUS, ball, model

GOOD = Quality({"a": Expected(0.9, 0.8, 0.95), "b": None}, 1.0, ())
BAD = Quality({"a": Expected(0.4, 0.2, 0.6), "b": None}, 0.8, ("a is small", "the expected mean Dice is low"))


def test_tables_are_gathered_and_doubtful_cases_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for case, quality in (("NA", GOOD), ("two", BAD)):
        write_quality(tmp_path / f"{case}_quality.csv", case, quality)
    assert gather_quality(tmp_path, ["NA", "two", "missing"]) == tmp_path / "quality.csv"
    table = pd.read_csv(tmp_path / "quality.csv", keep_default_na=False)
    assert table.case.tolist() == ["NA"] * 3 + ["two"] * 3 and table.label.tolist() == ["(all)", "a", "b"] * 2
    assert table["size"].tolist()[3] == "0.8" and table.expected_dice.tolist()[5] == ""
    assert "case `two`: expected Dice 0.40; a is small; the expected mean Dice is low" in caplog.text
    assert "1 of 2 cases should be looked at first" in caplog.text
    assert gather_quality(tmp_path / "empty", ["NA"]) is None


def test_the_caption_says_what_is_expected() -> None:
    assert caption(None) == "expected Dice: not calibrated"
    assert caption(GOOD) == "expected Dice: a 0.90 (0.80 to 0.95), b not found"
    assert caption(BAD).endswith("look at this case")


def test_predicted_files_have_their_quality_beside_them(tmp_path: Path) -> None:
    known, _ = model()
    cases = {}
    for name, size in (("usual", 1.0), ("small", 0.64)):
        file = tmp_path / f"{name}_0000.nii.gz"
        write_scalar(file, ball(RADIUS * size)[0], Geometry.from_spacing((24, 24, 24), (1, 1, 1)))
        cases[name] = (file,)
    outputs = plan_outputs(cases, tmp_path / "out")
    predictor = Predictor(known, "cpu", PredictionOptions(mirror=False))
    assert predict_cases(predictor, cases, outputs, Extras(statistics=True, preview=True)) == {}
    sizes = {name: pd.read_csv(tmp_path / f"out/{name}_quality.csv")["size"][0] for name in cases}
    assert sizes == {"usual": 1.0, "small": 0.64}
    measured = pd.read_csv(tmp_path / "out/usual_statistics.csv")
    assert np.all(measured.expected_low <= measured.expected_dice) and np.all(measured.expected_dice <= measured.expected_high)
    known = type(known)(known.plan, known.networks)
    assert predict_cases(Predictor(known, "cpu", PredictionOptions(mirror=False)), cases, outputs) == {}
    assert not (tmp_path / "out/usual_quality.csv").exists(), "a model that is not calibrated leaves no table of an earlier one"
