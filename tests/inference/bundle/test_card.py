import re
from pathlib import Path

import pytest

from configs.dataset import DatasetDescription
from configs.plan import ModelPlan
from configs.training import TrainingConfig
from inference.bundle.card import as_text, model_card
from inference.bundle.export import export_bundle
from inference.evaluation.equivariance import EquivarianceCurve, equivariance_curve
from inference.evaluation.scores import LabelScores, summarise
from tests.inference.models import plan, write_model

NOWHERE = Path("nowhere")  # a model folder with nothing but its plan


def scores(dice):
    return LabelScores(
        dice=dice, iou=None, precision=None, recall=None, volume_error=None, predicted_volume=1, reference_volume=1
    )


def with_metrics(folder, fold, cases):
    result = summarise({case: {"grey": scores(dice), "bright": scores(None)} for case, dice in cases.items()})
    (folder / f"fold_{fold}/validation").mkdir()
    result.write(folder / f"fold_{fold}/validation/metrics.json")


def test_card_pools_the_folds_case_by_case(tmp_path):
    folder = write_model(tmp_path / "toy", folds=("0", "1", "all"))
    with_metrics(folder, "0", {"secret_a": 0.5, "secret_b": 0.7})
    with_metrics(folder, "1", {"secret_c": 0.9})
    with_metrics(folder, "all", {"secret_a": 1.0})
    TrainingConfig(epochs=7, iterations=11).write(folder / "training.json")
    card = model_card(folder, ModelPlan(plan()), ["0", "1", "all"], "CC-BY-4.0")
    assert "| grey | 0.7000 | 3 |" in card and "| bright | undefined | 0 |" in card and "| mean | 0.7000 | |" in card
    assert "| 0 | 2 | 0.6000 |" in card and "| 1 | 1 | 0.9000 |" in card and "Fold all was trained on every case" in card
    assert "7 epochs of 11 steps with batches of 2" in card and "## Licence\n\nCC-BY-4.0" in card
    assert "secret" not in card  # names of cases may be those of patients


def test_what_is_not_known_is_said():
    card = model_card(NOWHERE, ModelPlan(plan()), ["0"], None)
    assert "No validation scores are available." in card and "Not measured." in card and "Not stated." in card
    assert "Trained for" not in card


def test_text_stays_text():
    hostile = '<img src=x onerror="alert(1)"> [a](javascript:b) `c`\n# d | e ![f](g) $h$'
    labels = {"background": 0, hostile: 1}
    made = ModelPlan(plan(DatasetDescription(name="toy", channels=(hostile,), labels=labels)))
    card = model_card(NOWHERE, made, ["0"], hostile)
    plain = model_card(
        NOWHERE, ModelPlan(plan(DatasetDescription(name="toy", channels=("MR",), labels={"background": 0, "x": 1}))), ["0"], "x"
    )
    assert "<img" not in card and not re.search(r"(?<!\\)[\]`$]", card)
    assert card.count("\n") == plain.count("\n")
    assert [line for line in card.splitlines() if line.startswith("#")] == [
        line for line in plain.splitlines() if line.startswith("#")
    ]


def test_escapes():
    assert as_text("a_b\n*c* _d_") == "a_b \\*c\\* \\_d\\_" and as_text("plain words 3") == "plain words 3"


def test_a_card_in_the_folder_is_kept_unless_a_licence_is_given(tmp_path):
    folder = write_model(tmp_path / "toy", folds=("0",))
    (folder / "model_card.md").write_text("my own words\n")
    export_bundle(folder, tmp_path / "own.zip")
    assert b"my own words" in (tmp_path / "own.zip").read_bytes()
    export_bundle(folder, tmp_path / "licensed.zip", licence="MIT")
    assert b"my own words" not in (tmp_path / "licensed.zip").read_bytes()


@pytest.mark.slow
def test_equivariance_is_measured_and_shown(tmp_path):
    folder = write_model(tmp_path / "toy", folds=("0",))
    curve = equivariance_curve(folder, "cpu")
    assert curve.fold == "0" and curve.on_fields is not None and all(0 < error < 4 for error in curve.on_fields)
    assert f"| 1.25 | {curve.on_fields[4]:.3g} |" in model_card(folder, ModelPlan(plan()), ["0"], None)
    manifest = export_bundle(folder, tmp_path / "toy.zip")
    assert "equivariance.json" in manifest.files
    assert EquivarianceCurve.read(folder / "equivariance.json") == curve
