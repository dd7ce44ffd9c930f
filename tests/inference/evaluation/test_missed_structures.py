"""A structure that a prediction misses, or a prediction that is missing, cannot make an evaluation look better."""

import io
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.console import Console

from configs.dataset import DatasetDescription
from configs.files import write_json
from inference import evaluate
from inference.evaluation.cli import main
from inference.evaluation.scores import (
    EvaluationResult,
    LabelScores,
    Structures,
    Unmatched,
    image_diagonal,
    score_case,
    summarise,
)
from inference.evaluation.tables import fitted, score_table
from preprocessing.formats.images import write_labels
from preprocessing.geometry.affine import Geometry
from trainers.monitoring.validation import table_of

SHAPE, SPACING = (6, 20, 20), (5.0, 0.8, 0.8)
ORGAN = DatasetDescription(name="toy", channels=("CT",), labels={"background": 0, "organ": 1})
BETTER_IF_LARGER = (
    "dice",
    "iou",
    "precision",
    "recall",
    "volume_similarity",
    "surface_dice",
    "surface_dice_by_voxels",
    "lesion_f1",
)
Run = Callable[..., int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    def run_command(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["se_evaluate", *map(str, words)])
        return main()

    return run_command


def truth() -> NDArray[np.uint8]:
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:5, 6:14, 6:14] = 1
    return labels


def write(path: Path, labels: NDArray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_labels(path, labels, Geometry.from_spacing(labels.shape, SPACING))


def write_missed(folder: Path, missed: int, references: int = 8) -> tuple[Path, Path]:
    """Six predictions, of which the first ones miss their structure and the others are shifted, and more references."""
    for case in range(references):
        write(folder / f"references/c{case}.nii.gz", truth())
        if case < 6:
            found = np.zeros_like(truth()) if case < missed else np.roll(truth(), 3 - case % 3, 1)
            write(folder / f"predictions/c{case}.nii.gz", found)
    write_json(folder / "references/dataset.json", ORGAN.model_dump(mode="json"))
    return folder / "predictions", folder / "references"


def worse(field: str, before: float | None, after: float | None) -> bool:
    """Whether a mean that is defined did not improve."""
    assert before is not None and after is not None
    return after <= before + 1e-12 if field in BETTER_IF_LARGER else after >= before - 1e-12


def test_missing_more_structures_improves_no_mean(tmp_path: Path) -> None:
    results = [evaluate(*write_missed(tmp_path / str(missed), missed), tolerance=1.0) for missed in (0, 2, 4, 5)]
    for before, after in itertools.pairwise(results):
        for field in (*BETTER_IF_LARGER, "hd95"):
            assert worse(field, before.means["organ"][field].value, after.means["organ"][field].value), field
    assert [result.structures["organ"].missed for result in results] == [0, 2, 4, 5]
    missed = results[1].cases["c0"]["organ"]
    assert missed.hd95 == pytest.approx((30**2 + 16**2 + 16**2) ** 0.5) and missed.precision == 0 and missed.structure == "missed"


def test_an_excluded_distance_is_counted_and_would_improve(tmp_path: Path) -> None:
    """The other convention, which was the only one before, shows why it is not the default."""
    results = [evaluate(*write_missed(tmp_path / str(missed), missed), tolerance=1.0, unmatched="excluded") for missed in (0, 5)]
    means = [result.means["organ"]["hd95"] for result in results]
    assert (means[1].cases, means[1].undefined) == (1, 5) and results[1].unmatched == "excluded"
    assert not worse("hd95", means[0].value, means[1].value)


@st.composite
def _cases(draw: st.DrawFn) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Predictions and references of two labels, as boxes that may be empty or lie apart."""

    def boxes() -> NDArray[np.uint8]:
        labels = np.zeros((3, 7, 7), np.uint8)
        for label in (1, 2):
            if draw(st.integers(0, 5)):
                z, y, x = draw(st.integers(0, 2)), draw(st.integers(0, 6)), draw(st.integers(0, 6))
                labels[z:, y : y + draw(st.integers(1, 4)), x : x + draw(st.integers(1, 4))] = label
        return labels

    return [(boxes(), boxes()) for _ in range(draw(st.integers(1, 3)))]


TWO = DatasetDescription(name="toy", channels=("CT",), labels={"background": 0, "left": 1, "right": 2})


def scored(pairs: list[tuple[NDArray, NDArray]], unmatched: Unmatched = "diagonal") -> EvaluationResult:
    cases = {str(index): score_case(*pair, TWO, SPACING, 1.0, unmatched) for index, pair in enumerate(pairs)}
    return summarise(cases, 1.0, unmatched)


@settings(max_examples=60, deadline=None)
@given(_cases(), st.data())
def test_removing_a_structure_improves_no_mean(pairs: list[tuple[NDArray, NDArray]], data: st.DataObject) -> None:
    index, label = data.draw(st.integers(0, len(pairs) - 1)), data.draw(st.sampled_from([1, 2]))
    predicted, reference = pairs[index]
    if not (reference == label).any():
        return  # taking away what was invented is an improvement
    before = scored(pairs)
    pairs[index] = np.where(predicted == label, 0, predicted), reference
    after = scored(pairs)
    for name, means in after.means.items():
        for field in (*BETTER_IF_LARGER, "hd95"):
            if before.means[name][field].value is not None:
                assert worse(field, before.means[name][field].value, means[field].value), (name, field)
    assert (after.mean_foreground_dice or 0) <= (before.mean_foreground_dice or 0) + 1e-12


@settings(max_examples=60, deadline=None)
@given(_cases(), st.data())
def test_inventing_a_structure_improves_no_mean(pairs: list[tuple[NDArray, NDArray]], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(pairs) - 1))
    predicted, reference = pairs[index]
    if (reference == 1).any() or (predicted == 1).any() or not (predicted == 0).any():
        return
    before = scored(pairs)
    invented = predicted.copy()
    invented[tuple(np.argwhere(predicted == 0)[0])] = 1
    pairs[index] = invented, reference
    after = scored(pairs)
    for field in (*BETTER_IF_LARGER, "hd95"):
        if before.means["left"][field].value is not None:
            assert worse(field, before.means["left"][field].value, after.means["left"][field].value), field


def test_the_diagonal_is_above_every_distance() -> None:
    corners = np.zeros((2, 4, 5, 6), np.uint8)
    corners[0, 0, 0, 0] = corners[1, -1, -1, -1] = 1
    apart = score_case(corners[0], corners[1], ORGAN, SPACING, 1.0)["organ"].hd95
    assert apart is not None and apart < image_diagonal((4, 5, 6), SPACING)


def test_a_label_in_neither_is_in_no_mean() -> None:
    nothing = np.zeros(SHAPE, np.uint8)
    scores = score_case(nothing, nothing, ORGAN, SPACING, 1.0)["organ"]
    assert scores.structure == "absent" and all(getattr(scores, field) is None for field in (*BETTER_IF_LARGER, "hd95"))
    result = summarise({"a": {"organ": scores}}, 1.0)
    assert result.structures["organ"] == Structures(found=0, missed=0, invented=0, absent=1)


def test_results_of_earlier_versions_are_read(tmp_path: Path) -> None:
    result = evaluate(*write_missed(tmp_path, 2), tolerance=1.0)
    stored = json.loads(result.model_dump_json(exclude={"unmatched", "structures", "without_prediction"}))
    for scores in stored["cases"].values():
        del scores["organ"]["volume_similarity"]
    write_json(tmp_path / "metrics.json", stored)
    read = EvaluationResult.read(tmp_path / "metrics.json")
    assert read.unmatched == "excluded" and read.cases["c0"]["organ"].structure == "missed"


@pytest.mark.parametrize("allowed", [False, True])
def test_references_without_a_prediction_are_named(
    run: Run, tmp_path: Path, allowed: bool, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    folders = write_missed(tmp_path, 1)
    code = run(*folders, "--surface", *(["--allow-missing"] if allowed else []))
    printed = capsys.readouterr()
    assert code == (0 if allowed else 2)
    assert "2 references without a prediction: c6, c7" in (caplog.text if allowed else printed.err)
    assert "2 references without a prediction are in no mean" in " ".join(printed.out.split())
    written = EvaluationResult.read(folders[0] / "metrics.json")
    assert written.without_prediction == ("c6", "c7") and len(written.cases) == 6, "nothing computed is lost"


def test_a_fold_is_expected_to_predict_its_validation_cases_alone(run: Run, tmp_path: Path) -> None:
    predictions, references = write_missed(tmp_path, 1)
    validation = tmp_path / "models/3d_fullres_se/fold_0/validation"
    validation.parent.mkdir(parents=True)
    predictions.rename(validation)
    evaluate(validation, references).model_copy(update={"without_prediction": ()}).write(validation / "metrics.json")
    assert run(validation, references) == 2, "a folder of that name is no fold without a plan beside it"
    evaluate(validation, references).model_copy(update={"without_prediction": ()}).write(validation / "metrics.json")
    (validation.parent.parent / "plan.json").touch()
    assert run(validation, references) == 0
    (validation / "c3.nii.gz").unlink()
    assert run(validation, references) == run(validation, references) == 2
    assert EvaluationResult.read(validation / "metrics.json").without_prediction == ("c3",)


def test_complete_predictions_end_well(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*write_missed(tmp_path, 3, references=6), "--surface") == 0
    lines = capsys.readouterr().out.splitlines()
    row = next(line.split() for line in lines if line.split()[:1] == ["organ"])
    assert row[-5:] == ["6", "of", "6", "3", "0"]
    assert "diagonal of its image in HD95" in " ".join(" ".join(lines).split())
    assert run(tmp_path / "predictions", tmp_path / "references", "--surface", "--unmatched", "excluded") == 0
    assert "excluded from HD95" in " ".join(capsys.readouterr().out.split())


NAMES = ["pulmonary artery and its left branch", "[red]left[/red]", ":smile: kidney", "脊髓灰质和白质的体积", "a" * 70, "kidney"]


@pytest.mark.parametrize("cases", [1, 99, 12345])
@pytest.mark.parametrize("distance", [0.5, 54321.0])
def test_the_table_fits_80_columns(cases: int, distance: float) -> None:
    one = score_case(truth(), truth(), ORGAN, SPACING, 1.0)["organ"].model_copy(update={"hd95": distance})
    result = result_of(dict.fromkeys(NAMES, one), cases)
    file = io.StringIO()
    Console(width=80, file=file, emoji=False).print(score_table(result))
    lines = file.getvalue().splitlines()
    assert max(map(cell_len, lines)) <= 80 and "…" not in file.getvalue()
    rows = [line for line in lines[1:] if "1.000" in line]
    assert len(rows) == len(NAMES) and len({cell_len(row) for row in rows}) == 1
    assert len({cell_len(row[: row.index("1.000")]) for row in rows}) == 1, "every column starts at one place"
    shown = "".join(line[1:8].strip() for line in lines).replace(" ", "")
    assert "kidney" in shown


def result_of(labels: dict[str, LabelScores], cases: int) -> EvaluationResult:
    result = summarise({"a": labels}, 1.0)
    means = {
        label: {field: mean.model_copy(update={"cases": cases}) for field, mean in fields.items()}
        for label, fields in result.means.items()
    }
    structures = dict.fromkeys(labels, Structures(found=cases, missed=cases, invented=cases, absent=0))
    return result.model_copy(update={"means": means, "structures": structures})


def test_the_table_of_a_training_fits_80_columns() -> None:
    description = DatasetDescription(
        name="toy", channels=("CT",), labels={"background": 0} | {name: value for value, name in enumerate(NAMES, start=1)}
    )
    one = score_case(truth(), truth(), ORGAN, SPACING)["organ"]
    lines = table_of(result_of(dict.fromkeys(NAMES, one), 1234), description).splitlines()
    assert max(map(cell_len, lines)) <= 80 and all("1.0000" in line for line in lines)
    assert len({cell_len(line[: line.index("1.0000")]) for line in lines}) == 1
    assert "(1234 cases, 1234 missed, 1234 invented)" in lines[0]


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60), st.integers(3, 50))
def test_a_fitted_text_takes_exactly_its_width(text: str, width: int) -> None:
    assert cell_len(fitted(text, width)) == width
