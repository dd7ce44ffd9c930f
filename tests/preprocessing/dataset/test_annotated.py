"""Datasets in which not every case has the annotation of every label: what `dataset.json` or a table says, and where it counts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs.dataset import DatasetDescription, possible_classes
from configs.errors import InputError
from inference.evaluation.evaluate import evaluate
from planners.options import PlanningOptions
from planners.run import plan_and_preprocess
from preprocessing.dataset.labels import labelled, to_class_indices
from preprocessing.dataset.raw import open_dataset
from preprocessing.store import CaseStore
from tests.preprocessing.datasets import labels, make_dataset, save

BOTH = ("inner", "outer")


def partly(folder: Path, annotated: Any, **changes: Any) -> Path:
    """A dataset whose last case has no voxels of `outer`."""
    make_dataset(folder, cases=3, annotated=annotated, **changes)
    alone = labels()
    alone[alone == 2] = 0
    save(folder / "labelsTr" / "case_2.nii.gz", alone)
    return folder


def test_the_background_of_such_a_case_has_an_index_of_its_own(tmp_path: Path) -> None:
    dataset = open_dataset(partly(tmp_path / "data", {"case_2": ["inner"], "case_1": ["outer", "inner"]}))
    description = dataset.description
    assert description.annotated == (("inner",),)
    assert [files.annotated for files in dataset.cases.values()] == [None, None, ("inner",)]
    assert possible_classes(description) == {4: (0, 2)} and description.partial_index(("inner",)) == 4
    indices = to_class_indices(np.array([[0, 1]]), description, annotated=("inner",))
    assert indices.tolist() == [[4, 1]] and labelled(indices, description).tolist() == [[False, True]]


def test_a_table_says_the_same(tmp_path: Path) -> None:
    partly(tmp_path / "data", {})
    (tmp_path / "data" / "annotated.csv").write_text("case,label\ncase_2,inner\ncase_0,outer\ncase_0,inner\n")
    dataset = open_dataset(tmp_path / "data")
    assert {case: files.annotated for case, files in dataset.cases.items() if files.annotated} == {"case_2": ("inner",)}


@pytest.mark.parametrize(
    ("entry", "match"),
    [
        ([1], "not an object from cases to lists of labels"),
        ({"case_2": "inner"}, "not an object from cases to lists of labels"),
        ({"case_2": ["liver"]}, "case `case_2`: liver is no label of the dataset"),
        ({"case_2": []}, "case `case_2` has no annotated label"),
        ({"case_9": ["inner"]}, "there is no case `case_9`"),
        ({f"case_{index}": ["inner"] for index in range(3)}, "no training case has the annotation of outer"),
    ],
)
def test_wrong_entries_are_refused(tmp_path: Path, entry: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        open_dataset(partly(tmp_path / "data", entry))


@pytest.mark.parametrize(
    "table", ["", "case,labels\n", "case,label\ncase_2\n", "case,label\ncase_2,\n", "case,label\ncase_9,inner\n"]
)
def test_wrong_tables_are_refused(tmp_path: Path, table: str) -> None:
    partly(tmp_path / "data", {})
    (tmp_path / "data" / "annotated.csv").write_text(table)
    with pytest.raises(InputError, match=r"annotated\.csv"):
        open_dataset(tmp_path / "data")


def test_two_places_and_regions_are_refused(tmp_path: Path) -> None:
    (partly(tmp_path / "a", {"case_2": ["inner"]}) / "annotated.csv").write_text("case,label\ncase_2,inner\n")
    with pytest.raises(InputError, match="says something, too"):
        open_dataset(tmp_path / "a")
    regions = {"background": 0, "outer": [1, 2], "inner": [1]}
    with pytest.raises(InputError, match="this dataset has regions"):
        open_dataset(partly(tmp_path / "b", {"case_2": ["inner"]}, labels=regions, regions_class_order=[2, 1]))


def test_voxels_of_a_label_that_was_not_annotated_are_a_fault(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data", cases=3, annotated={"case_1": ["inner"]})
    with pytest.raises(InputError, match=r"case `case_1`.*voxels of outer, which is not among its annotated labels"):
        plan_and_preprocess(tmp_path / "data", tmp_path / "work", jobs=1, plan_only=True)


def test_planned_and_prepared(tmp_path: Path) -> None:
    """Foreground, sizes and voxels to sample are those of labels; the case keeps which labels it has."""
    options = PlanningOptions(configurations=("3d_fullres",), networks=("baseline",), patch_size=(8, 8, 8))
    whole = make_dataset(tmp_path / "whole", cases=3)
    part = partly(tmp_path / "part", {"case_2": ["inner"]})
    plans = [plan_and_preprocess(folder, tmp_path / "work", options, jobs=1) for folder in (whole, part)]
    assert plans[1].dataset.annotated == (("inner",),) and plans[0].dataset.annotated == ()
    fingerprint = json.loads((tmp_path / "work" / "part" / "fingerprint.json").read_text())
    assert [case["labels"]["outer"]["voxels"] for case in fingerprint["cases"].values()] == [312, 312, 0]
    case = CaseStore(tmp_path / "work" / "part" / "preprocessed" / "3d_fullres").read("case_2")
    assert case.properties.annotated == ("inner",) and set(np.unique(case.labels[:])) == {1, 4}


def test_only_annotated_labels_are_scored(tmp_path: Path) -> None:
    folder = partly(tmp_path / "data", {"case_2": ["inner"]})
    for index in range(3):
        save(tmp_path / "predictions" / f"case_{index}.nii.gz", labels())
    result = evaluate(tmp_path / "predictions", folder / "labelsTr")
    assert [sorted(scores) for scores in result.cases.values()] == [list(BOTH), list(BOTH), ["inner"]]
    assert result.mean_foreground_dice == 1.0, "the label that the case lacks would be invented"
    assert (result.means["outer"]["dice"].cases, result.structures["outer"].invented) == (2, 0)
    content = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({name: value for name, value in content.items() if name != "annotated"}))
    control = evaluate(tmp_path / "predictions", folder / "labelsTr")
    assert control.structures["outer"].invented == 1


def test_test_cases_may_be_listed(tmp_path: Path) -> None:
    """They are scored for their labels, and no network is told of them."""
    folder = make_dataset(tmp_path / "data", cases=3, annotated={"new": ["inner"]})
    alone = labels()
    alone[alone == 2] = 0
    save(folder / "labelsTs" / "new.nii.gz", alone)
    save(tmp_path / "predictions" / "new.nii.gz", labels())
    assert open_dataset(folder).description.annotated == ()
    assert sorted(evaluate(tmp_path / "predictions", folder / "labelsTs").cases["new"]) == ["inner"]
    (folder / "labelsTs" / "new.nii.gz").unlink()
    with pytest.raises(InputError, match="there is no case `new`"):
        open_dataset(folder)


def test_descriptions_without_the_entry_are_read_as_before() -> None:
    stated = {"name": "a", "channels": ["MR"], "labels": {"background": 0, "b": 1, "c": 2}}
    assert DatasetDescription.model_validate(stated).annotated == ()
    for wrong in ([["d"]], [[]], [["b"], ["b"]]):
        with pytest.raises(ValueError, match="annotated"):
            DatasetDescription.model_validate({**stated, "annotated": wrong})
