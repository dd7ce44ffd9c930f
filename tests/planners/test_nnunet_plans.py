"""nnU-Net's plans file as the plan, and its folds."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from configs.errors import InputError
from configs.plan import AxisOrder, Resampling
from planners.options import PlanningOptions
from planners.run import plan_and_preprocess
from tests.inference.bundle.nnunet.results import configuration, plans
from tests.preprocessing.datasets import make_dataset

SCHEMES = {"normalization_schemes": ["ZScoreNormalization"], "use_mask_for_norm": [False]}


def planned(folder: Path, content: Any = None, **options: Any) -> Any:
    make_dataset(folder / "data", cases=4)
    if content is None:
        content = plans(transpose_forward=[1, 0, 2])
        for one in content["configurations"].values():
            one.update(SCHEMES if "patch_size" in one else {})
    (folder / "plans.json").write_text(json.dumps(content))
    given = PlanningOptions(nnunet_plans=folder / "plans.json", **options)
    return plan_and_preprocess(folder / "data", folder / "work", given, jobs=1)


def test_every_configuration_has_the_network_of_the_file(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    assert list(plan.configurations) == ["2d", "3d_fullres", "3d_lowres", "3d_cascade_fullres"]
    assert plan.orientation == AxisOrder(axes=(1, 0, 2)) and plan.sizes is not None
    assert {tuple(one.networks) for one in plan.configurations.values()} == {("nnunet",)}
    full, cascade = plan.configurations["3d_fullres"], plan.configurations["3d_cascade_fullres"]
    assert (full.spacing, full.resampling) == ((2.0, 1.0, 0.9), Resampling(clamp="slice", back="nearest"))
    assert (cascade.previous, cascade.cases_of) == ("3d_lowres", "3d_fullres")
    network, second = (one.networks["nnunet"].network for one in (full, cascade))
    foreground = len(plan.dataset.foreground)
    assert (network.family, network.output_channels) == ("plain", foreground + 1)
    assert second.input_channels == network.input_channels + foreground
    prepared = tmp_path / "work" / "data" / "preprocessed"
    assert sorted(path.name for path in prepared.iterdir()) == ["2d", "3d_fullres", "3d_lowres"]


def test_some_configurations(tmp_path: Path) -> None:
    assert list(planned(tmp_path / "a", configurations=("2d",)).configurations) == ["2d"]
    with pytest.raises(InputError, match="the plans file has no such configuration"):
        planned(
            tmp_path / "b",
            content={**plans(), "configurations": {"2d": {**configuration(2), **SCHEMES}}},
            configurations=("3d_fullres",),
        )


def test_other_options_contradict_it(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        PlanningOptions(nnunet_plans=tmp_path, spacing=(1.0, 1.0, 1.0), networks=("se",), size="large")
    assert [fault.where for fault in caught.value.faults] == ["--spacing", "--network", "--size"]
    PlanningOptions(nnunet_plans=tmp_path, configurations=("2d",), scale_range=(0.5, 2.0))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ([1], "not a plans file of nnU-Net 2"),
        ({"configurations": {}, "a": 1}, "damaged or of another version"),
        (plans(), "2 normalisations are planned, but there are 1 channels"),
        (plans(image_reader_writer="Mine"), "`Mine` is unknown"),
        (plans(configurations={"3d_fullres": configuration(**SCHEMES, resampling_fn_data="mine")}), "`mine` with order 3"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        planned(tmp_path, content)
    assert not (tmp_path / "work").exists()


def folds(path: Path, *validation: str) -> Path:
    cases = [f"case_{index}" for index in range(4)]
    content = [{"train": [case for case in cases if case != one], "val": [one]} for one in validation]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_splits_are_found_in_the_dataset_or_given(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_dataset(tmp_path / "data", cases=4)
    kept = tmp_path / "work" / "data" / "splits.json"
    options = PlanningOptions(configurations=("3d_fullres",), networks=("baseline",), patch_size=(8, 8, 8))

    def plan(**given: Any) -> list[str]:
        plan_and_preprocess(tmp_path / "data", tmp_path / "work", options, jobs=1, plan_only=True, **given)
        return [fold["val"][0] for fold in json.loads(kept.read_text())] if kept.is_file() else []

    assert plan() == []
    folds(tmp_path / "data" / "splits_final.json", "case_3", "case_1")
    assert plan() == ["case_3", "case_1"]
    given = folds(tmp_path / "mine.json", "case_2")
    with caplog.at_level(logging.WARNING):
        assert plan(splits=given) == ["case_2"]
    assert "is replaced by the folds of" in caplog.text
    assert plan() == ["case_2"], "what the user gave stays"
    with pytest.raises(InputError, match="cases that are not prepared: case_9"):
        plan(splits=folds(tmp_path / "wrong.json", "case_9"))
    assert json.loads(kept.read_text())[0]["val"] == ["case_2"]
