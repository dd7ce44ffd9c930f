"""Datasets at the edge of what there can be: planned and prepared, or refused with a reason; never a traceback."""

from pathlib import Path

import numpy as np
import pytest

from configs.errors import InputError
from configs.plan import Plan
from planners.options import PlanningOptions
from planners.run import plan_and_preprocess
from preprocessing.dataset.splits import choose_split
from preprocessing.store import CaseStore
from tests.preprocessing.datasets import image, labels, make_dataset, save, write_json


def planned(folder: Path, work: Path, **options: object) -> tuple[Plan, CaseStore]:
    """The plan and the prepared cases of its first configuration."""
    chosen = PlanningOptions(networks=("baseline",), **options)  # type: ignore[arg-type]
    plan = plan_and_preprocess(folder, work, chosen, jobs=1)
    name = next(name for name, configuration in plan.configurations.items() if not configuration.cases_of)
    return plan, CaseStore(work / folder.name / "preprocessed" / name)


def test_one_case(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", cases=1)
    _, store = planned(data, tmp_path / "work")
    assert store.identifiers() == ["case_0"]
    with pytest.raises(InputError, match=r"1 prepared case cannot be split.*--fold all"):
        choose_split(tmp_path / "splits.json", 0, store.identifiers())
    assert choose_split(tmp_path / "splits.json", "all", store.identifiers()).training == ("case_0",)


def test_two_cases(tmp_path: Path) -> None:
    _, store = planned(make_dataset(tmp_path / "data", cases=2), tmp_path / "work")
    split = choose_split(tmp_path / "splits.json", 1, store.identifiers())
    assert sorted(split.training + split.validation) == ["case_0", "case_1"] and len(split.training) == 1


def test_a_class_in_one_case_only(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", cases=3)
    for case in (0, 1):
        save(data / f"labelsTr/case_{case}.nii.gz", np.where(labels() == 1, 2, labels()).astype(np.uint8))
    _, store = planned(data, tmp_path / "work")
    assert set(store.read("case_0").class_locations) == {2} and set(store.read("case_2").class_locations) == {1, 2}


def test_no_foreground_at_all(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = make_dataset(tmp_path / "data", cases=3)
    for case in range(3):
        save(data / f"labelsTr/case_{case}.nii.gz", np.zeros_like(labels()))
    with caplog.at_level("WARNING"):
        _, store = planned(data, tmp_path / "work")
    assert caplog.text.count("the label file contains only background. Check that this is intended") == 3
    assert store.read("case_0").class_locations == {}


def test_images_of_one_slice(tmp_path: Path) -> None:
    shape = (512, 512, 1)
    data = tmp_path / "data"
    data.mkdir()
    write_json(data)
    for index in range(3):
        save(data / f"imagesTr/case_{index}_0000.nii.gz", image(index, shape))
        made = np.zeros(shape, np.uint8)
        made[100:300, 150:350], made[150:200, 200:250] = 2, 1
        save(data / f"labelsTr/case_{index}.nii.gz", made)
    plan, store = planned(data, tmp_path / "work")
    assert "2d" in plan.configurations and store.read("case_0").image.shape == (1, 1, 512, 512)


@pytest.mark.slow
def test_two_hundred_classes(tmp_path: Path) -> None:
    names = {"background": 0} | {f"organ {value}": value for value in range(1, 201)}
    data = make_dataset(tmp_path / "data", cases=2, labels=names)
    for case in range(2):
        save(data / f"imagesTr/case_{case}_0000.nii.gz", image(case, (40, 40, 40)))
        save(data / f"labelsTr/case_{case}.nii.gz", (np.arange(64_000).reshape(40, 40, 40) // 8 % 201).astype(np.uint8))
    plan, store = planned(data, tmp_path / "work", configurations=("3d_fullres",))
    assert plan.network("3d_fullres", "baseline").network.output_channels == 201
    assert len(store.read("case_0").class_locations) == 200
