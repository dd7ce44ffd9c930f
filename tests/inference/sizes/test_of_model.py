"""A calibration belongs to the folds whose validation cases made it."""

from pathlib import Path

import pytest

from configs.plan import SizeRange
from inference.model import load_model, weights_digests
from inference.options import PredictionOptions
from inference.predictor import Predictor
from inference.sizes.finder import SizeFinder
from inference.sizes.search import uncalibrated
from tests.inference.models import LABELS, write_model

SIZES = SizeRange(low=0.8, high=1.25)


def calibrated(folder: Path, folds: tuple[str, ...], known: tuple[str, ...]) -> Path:
    """A model whose calibration knows some of its folds."""
    model = write_model(folder, folds)
    made = uncalibrated(LABELS.foreground, SIZES).model_copy(update={"networks": weights_digests(model, known, "final")})
    made.write(model / "calibration.json")
    return model


def test_fold_all_is_not_calibrated_by_the_others(tmp_path: Path) -> None:
    model = calibrated(tmp_path / "model", ("0", "all"), ("0",))
    assert load_model(model, ["0"]).calibration is not None
    assert load_model(model, ["all"]).calibration is None
    assert load_model(model).calibration is not None


def test_a_calibrated_fold_looks(tmp_path: Path) -> None:
    model = load_model(calibrated(tmp_path / "model", ("0", "1"), ("1",)))
    predictor = Predictor(model, "cpu", PredictionOptions(mirror=False))
    finder = SizeFinder.of(model, predictor.networks[0], predictor.options, predictor._blending, predictor._capacity)
    assert finder is not None and finder.network is predictor.networks[0][1]


@pytest.mark.parametrize(("content", "why"), [("{", "it cannot be read"), (None, "it is for the labels other")])
def test_a_calibration_that_does_not_fit_is_told_and_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str | None, why: str
) -> None:
    model = calibrated(tmp_path / "model", ("0",), ("0",))
    made = uncalibrated(("other",), SIZES).model_copy(update={"networks": weights_digests(model, ["0"], "final")})
    (model / "calibration.json").write_text(content or made.model_dump_json())
    assert load_model(model).calibration is None
    assert f"calibration.json is not used, because {why}" in caplog.text
