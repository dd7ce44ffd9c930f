"""Folders of predictions against folders of references."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from configs.dataset import DatasetDescription
from configs.errors import InputError
from configs.files import write_json
from inference import evaluate
from inference.evaluation.label_files import find_description, load_description
from inference.evaluation.scores import EvaluationResult, score_case
from inference.evaluation.tables import score_table
from preprocessing.formats.images import write_labels
from preprocessing.geometry.affine import Geometry

SHAPE = (6, 8, 10)
LABELS = DatasetDescription(name="toy", channels=("MR",), labels={"background": 0, "kidney": 5, "cyst": 9})


def geometry(spacing: tuple[float, float, float] = (2.0, 1.0, 1.0)) -> Geometry:
    return Geometry.from_spacing(SHAPE, spacing)


def boxes(**kinds: int) -> NDArray[np.uint8]:
    """`kidney=4` paints four slices of 5, `cyst=2` two voxels of 9."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[: kinds.get("kidney", 0), 2:6, 2:6] = 5
    labels[0, 0, : kinds.get("cyst", 0)] = 9
    return labels


def write_folders(folder: Path, pairs: dict[str, tuple[NDArray, NDArray]]) -> tuple[Path, Path]:
    folders = folder / "predictions", folder / "references"
    for position, place in enumerate(folders):
        place.mkdir()
        for case, pair in pairs.items():
            write_labels(place / f"{case}.nii.gz", pair[position], geometry())
    return folders


def test_scores_means_and_absent_labels(tmp_path: Path) -> None:
    predictions, references = write_folders(
        tmp_path,
        {
            "a": (boxes(kidney=4, cyst=2), boxes(kidney=4, cyst=2)),
            "b": (boxes(kidney=2), boxes(kidney=4)),  # half of the kidney, no cyst
            "c": (boxes(kidney=3, cyst=1), boxes(kidney=3)),  # an invented cyst
        },
    )
    result = evaluate(predictions, references, LABELS)
    kidney = result.cases["b"]["kidney"]
    assert (kidney.dice, kidney.iou, kidney.precision, kidney.recall) == (pytest.approx(2 / 3), 0.5, 1, 0.5)
    assert (kidney.volume_error, kidney.predicted_volume, kidney.reference_volume) == (-0.5, 64, 128)  # mm^3 of 2 mm^3 voxels
    assert result.cases["b"]["cyst"].dice is None
    assert result.cases["c"]["cyst"].dice == 0 and result.cases["c"]["cyst"].recall is None
    cyst = result.means["cyst"]["dice"]
    assert (cyst.value, cyst.cases, cyst.undefined) == (0.5, 2, 1)
    assert result.mean_foreground_dice == pytest.approx(((1 + 2 / 3 + 1) / 3 + 0.5) / 2)
    assert result.tolerance is None and "hd95" not in result.means["kidney"]


def test_a_label_that_never_occurs_is_left_out_of_the_mean(tmp_path: Path) -> None:
    result = evaluate(*write_folders(tmp_path, {"a": (boxes(kidney=4), boxes(kidney=4))}), LABELS)
    assert result.mean_foreground_dice == 1
    assert result.means["cyst"]["dice"].value is None and result.means["cyst"]["dice"].undefined == 1


def test_files_hold_no_nan(tmp_path: Path) -> None:
    result = evaluate(*write_folders(tmp_path, {"a": (boxes(kidney=4), boxes(kidney=4))}), LABELS, tolerance=1.0)
    result.write(tmp_path / "metrics.json")
    text = (tmp_path / "metrics.json").read_text()
    assert "NaN" not in text and json.loads(text)["cases"]["a"]["cyst"]["hd95"] is None
    assert EvaluationResult.read(tmp_path / "metrics.json") == result
    result.write_csv(tmp_path / "metrics.csv")
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["label"], row["dice"]) for row in rows] == [("a", "kidney", "1.0"), ("a", "cyst", "")]


def test_surfaces_are_measured_when_asked_for(tmp_path: Path) -> None:
    result = evaluate(*write_folders(tmp_path, {"a": (boxes(kidney=2), boxes(kidney=4))}), LABELS, tolerance=2.0)
    assert result.cases["a"]["kidney"].hd95 == 4  # two slices of 2 mm
    assert 0.5 < (result.cases["a"]["kidney"].surface_dice or 0) < 1


def test_several_processes_give_the_same(tmp_path: Path) -> None:
    folders = write_folders(tmp_path, {case: (boxes(kidney=2), boxes(kidney=4)) for case in "abc"})
    assert evaluate(*folders, LABELS, jobs=2) == evaluate(*folders, LABELS)


def test_ignored_voxels_do_not_count() -> None:
    description = DatasetDescription(name="toy", channels=("MR",), labels={"background": 0, "kidney": 1, "ignore": 2})
    reference = np.zeros(SHAPE, np.uint8)
    reference[:2] = 1
    predicted = reference.copy()
    predicted[4:] = 1
    assert score_case(predicted, reference, description, (1, 1, 1))["kidney"].dice == pytest.approx(2 / 3)
    reference[4:] = 2
    scores = score_case(predicted, reference, description, (1, 1, 1), tolerance=0.5)["kidney"]
    assert scores.dice == 1 and scores.surface_dice == 1


def test_regions_are_unions_of_values() -> None:
    description = DatasetDescription(
        name="toy", channels=("MR",), labels={"background": 0, "whole": (1, 2), "core": (2,)}, regions_class_order=(1, 2)
    )
    reference = np.zeros(SHAPE, np.uint8)
    reference[:4] = 1
    reference[:2] = 2
    predicted = np.where(reference == 2, 1, reference)  # the core is taken for the rim
    scores = score_case(predicted, reference, description, (1, 1, 1))
    assert scores["whole"].dice == 1 and scores["core"].dice == 0


def test_all_faults_at_once(tmp_path: Path) -> None:
    same = (boxes(kidney=4), boxes(kidney=4))
    predictions, references = write_folders(tmp_path, {"good": same, "unknown": same, "moved": same, "cut": same, "extra": same})
    (references / "extra.nii.gz").unlink()
    with pytest.raises(InputError) as caught:
        evaluate(predictions, references, LABELS)
    assert str(caught.value).startswith("case `extra`: the prediction")
    (predictions / "extra.nii.gz").unlink()
    write_labels(predictions / "unknown.nii.gz", boxes(kidney=4) + 1, geometry())
    write_labels(predictions / "moved.nii.gz", boxes(kidney=4), geometry((3.0, 1.0, 1.0)))
    cut = (predictions / "cut.nii.gz").read_bytes()
    (predictions / "cut.nii.gz").write_bytes(cut[: len(cut) // 2])
    with pytest.raises(InputError) as caught:
        evaluate(predictions, references, LABELS)
    text = str(caught.value)
    assert len(caught.value.faults) == 3
    assert "label values 1, 6" in text and "spacing" in text and "cut.nii.gz: the file cannot be read" in text


def test_missing_folders_are_named_together(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        evaluate(tmp_path / "no", tmp_path / "neither")
    assert [fault.where for fault in caught.value.faults][:2] == [str(tmp_path / "no"), str(tmp_path / "neither")]


def test_names_are_found_beside_the_files(tmp_path: Path) -> None:
    predictions, references = write_folders(tmp_path, {"a": (boxes(kidney=4), boxes(kidney=4))})
    with pytest.raises(InputError, match="--labels"):
        evaluate(predictions, references)
    raw = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "kidney": 5}, "numTraining": 1, "file_ending": ".nii.gz"}
    write_json(tmp_path / "dataset.json", raw)
    assert find_description(predictions, references).foreground == ("kidney",)
    LABELS.write(predictions / "dataset.json")
    assert find_description(predictions, references) == LABELS
    write_json(predictions / "prediction.json", {"model": "x", "dataset": LABELS.model_dump(mode="json") | {"name": "other"}})
    assert find_description(predictions, references).name == "other"
    assert evaluate(predictions, references).mean_foreground_dice == 1
    write_json(tmp_path / "broken.json", LABELS.model_dump(mode="json") | {"labels": {"background": 1}})
    with pytest.raises(InputError, match="`background` must be 0"):
        load_description(tmp_path / "broken.json")


def test_the_table_names_what_is_left_out(tmp_path: Path) -> None:
    result = evaluate(*write_folders(tmp_path, {"a": (boxes(kidney=4), boxes(kidney=4))}), LABELS, tolerance=1.0)
    table = score_table(result)
    cells = {str(column.header): list(column.cells) for column in table.columns}
    assert cells["label"] == ["kidney", "cyst"] and cells["Dice"] == ["1.000", "-"]
    assert cells["cases"] == ["1 of 1", "0 of 1"] and cells["HD95\nmm"] == ["0.000", "-"]
    console = Console(width=80, file=io.StringIO())
    console.print(table)
    assert "…" not in console.file.getvalue()  # type: ignore[attr-defined]
