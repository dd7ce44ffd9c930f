"""The baseline is planned as nnU-Net plans it.

`nnunet_2_8_1_plans.json` holds what nnunetv2 2.8.1 decided (its `ExperimentPlanner`; for large networks its `nnUNetPlannerResEncL`),
as recorded by `benchmarks/nnunet/planner_parity.py`; axes are in nnU-Net's order.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.evidence.thick_slices import make_stacks
from benchmarks.nnunet.planner_parity import (
    STACKS,
    SYNTHETIC,
    Synthetic,
    agree,
    expand,
    plan_folder,
    plan_synthetic,
    recorded,
    summaries,
)

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
# nnU-Net counts all entries of `labels` as outputs, `background` beside regions and `ignore` included.
BATCH_DIFFERS = {("glioma regions", "2d"): (106, 105), ("sparse labels", "2d"): (649, 647)}
# nnU-Net takes axes as stored: sagittal and coronal images among axial ones change its median shape.
BATCH_DIFFERS |= {("Dataset050_SpinalCordMix", "2d"): (27, 28)}


THEIRS = json.loads(Path(__file__).with_name("nnunet_2_8_1_plans.json").read_text(encoding="utf-8"))


def assert_alike(name: str, ours: dict[str, Any]) -> None:
    assert list(ours) == [configuration for configuration in ("2d", "3d_lowres", "3d_fullres") if configuration in THEIRS[name]]
    for configuration, decisions in ours.items():
        theirs = expand(THEIRS[name][configuration])
        if (name, configuration) in BATCH_DIFFERS:
            assert (decisions["batch"], theirs["batch"]) == BATCH_DIFFERS[name, configuration]
            theirs["batch"] = decisions["batch"]
        assert agree(decisions, theirs), (configuration, decisions, theirs)


@pytest.mark.parametrize("made", SYNTHETIC, ids=lambda made: made.name)
def test_synthetic_fingerprints(made: Synthetic) -> None:
    assert_alike(made.name, summaries(plan_synthetic(made)))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in THEIRS if name.startswith("Dataset") and name != STACKS])
def test_real_datasets(name: str) -> None:
    if not (DATA / name).is_dir():
        pytest.skip(f"the dataset {name} is not there")
    assert_alike(name, summaries(plan_folder(DATA / name)))


def test_oblique_stacks(tmp_path: Path) -> None:
    assert_alike(STACKS, summaries(plan_folder(make_stacks(tmp_path / STACKS))))


def test_agreement_notices_each_difference() -> None:
    ours = summaries(plan_synthetic(SYNTHETIC[0]))["3d_fullres"]
    assert agree(ours, ours)
    for name, other in {
        "spacing": [1.0, 1.0, 1.1],
        "patch": [40, 56, 48],
        "batch": 8,
        "features": [32],
        "batch_dice": True,
    }.items():
        assert not agree(ours, ours | {name: other})
    turned = ours | {"patch": [56, 40, 40]}
    assert agree(ours, turned)


def test_the_plan_says_why_batches_differ() -> None:
    reasons = {made.name: plan_synthetic(made).configurations["2d"].networks["baseline"].reasons for made in SYNTHETIC}
    assert "3 outputs; nnU-Net counts all 4 entries" in reasons["sparse labels"]["outputs"]
    assert "outputs" not in reasons["isotropic CT"]


def test_recorded_plans_read_back() -> None:
    ours = {SYNTHETIC[0].name: summaries(plan_synthetic(SYNTHETIC[0]))}
    read = json.loads(recorded(ours))[SYNTHETIC[0].name]["3d_fullres"]
    assert expand(read) == ours[SYNTHETIC[0].name]["3d_fullres"]
