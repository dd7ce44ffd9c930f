"""The schedule of a run: what fits into the time, and what is given up for it."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import InputError
from configs.plan import Plan
from configs.training import load_training_config
from tests.trainers.balls import tiny_plan
from trainers.monitoring.forecast import Speed
from trainers.pipeline.options import RunOptions
from trainers.pipeline.schedule import ENOUGH_STEPS, HOURS_WITHOUT_GPU, Schedule, Wishes, make_schedule, stages

FOLDS = 5


def plan_of(*networks: str) -> Plan:
    plan = tiny_plan()
    configuration = plan.configurations["3d_fullres"]
    same = dict.fromkeys(networks, configuration.networks["baseline"])
    return plan.model_copy(update={"configurations": {"3d_fullres": configuration.model_copy(update={"networks": same})}})


def schedule(
    step: float = 0.1, spent: float = 0.0, on_gpu: bool = False, side_by_side: int = 1, validation: float = 20.0, **given: Any
) -> Schedule:
    """A schedule of two networks, of which the second takes half of the time to train, and has a validation of its own length."""
    options, plan = RunOptions(**given), plan_of("se", "baseline")
    wishes = Wishes.of(options, plan, FOLDS, on_gpu)
    speeds = {
        ("3d_fullres", name): Speed(seconds, seconds * wishes.settings.iterations, after, calibration=30.0)
        for name, seconds, after in (("se", step, 20.0), ("baseline", step / 2, validation))
    }
    return make_schedule(wishes, options.asked(None), plan, speeds, spent, side_by_side)


def steps(made: Schedule, step: float) -> float:
    """The steps that the slower network takes in its time."""
    return (made.settings.time_limit or 0.0) / step


def end_of(made: Schedule, side_by_side: int) -> float:
    """The seconds after which the last training ends when each starts on the device that is free first."""
    free_at = [0.0] * side_by_side
    for training in made.trainings:
        free_at.sort()
        free_at[0] += training.seconds or math.nan
    return max(free_at)


@given(
    hours=st.floats(0.1, 200.0),
    step=st.floats(0.01, 1.0),
    spent=st.floats(0.0, 60.0),
    side_by_side=st.sampled_from((1, 2, 3, 10, 16)),
)
def test_the_whole_fits_into_the_hours_and_uses_them(hours: float, step: float, spent: float, side_by_side: int) -> None:
    made = schedule(step, spent, side_by_side=side_by_side, hours=hours)
    assert 0.9 * hours * 3600 - 30 < spent + end_of(made, side_by_side) <= hours * 3600


def test_a_device_that_gets_all_long_validations_ends_in_time_too() -> None:
    made = schedule(side_by_side=2, validation=200.0, hours=2.0)
    assert len(made.trainings) == 10
    assert end_of(made, 2) <= 2 * 3600


def test_trainings_side_by_side_have_more_time_each() -> None:
    alone, beside = (schedule(side_by_side=number, hours=2.0) for number in (1, 2))
    assert len(beside.trainings) == len(alone.trainings) == 10
    assert (beside.settings.time_limit or 0) > 1.9 * (alone.settings.time_limit or 0)


@pytest.mark.parametrize(("hours", "trainings"), [(0.05, 1), (0.2, 2), (1.0, 10), (100.0, 10)])
def test_networks_and_folds_are_added_where_each_training_still_has_enough_steps(hours: float, trainings: int) -> None:
    made = schedule(0.05, hours=hours)
    assert len(made.trainings) == trainings
    assert trainings == 1 or steps(made, 0.05) >= ENOUGH_STEPS


def test_the_first_folds_of_all_networks_come_first() -> None:
    made = schedule(hours=50.0)
    assert [(each.fold, each.network) for each in made.trainings[:3]] == [(0, "se"), (0, "baseline"), (1, "se")]


def test_what_the_user_names_is_not_given_up() -> None:
    made = schedule(1.0, hours=0.2, networks=("baseline", "se"), folds=(3, 4))
    assert [(each.fold, each.network) for each in made.trainings] == [(3, "baseline"), (3, "se"), (4, "baseline"), (4, "se")]
    assert not any("not trained" in text for text in made.gives_up)


def test_too_little_time_is_refused_with_the_time_that_is_needed() -> None:
    with pytest.raises(InputError, match=r"--hours 0\.02: planning, one epoch and its validation take about [\d.]+ hours"):
        schedule(1.0, hours=0.02)


def test_without_a_gpu_a_run_ends_within_a_working_day_and_says_what_it_gives_up() -> None:
    made = schedule(2.0)
    assert made.hours == HOURS_WITHOUT_GPU
    told = " ".join(made.gives_up)
    assert "steps of preset default" in told
    assert "fold" in told
    assert "2 planned features" not in told, "the tiny network has fewer features than the preset would take"


def test_with_a_gpu_the_default_is_the_full_training() -> None:
    made = schedule(on_gpu=True)
    assert made.settings == load_training_config("default")
    assert (made.hours, made.gives_up, len(made.trainings)) == (None, (), 2 * FOLDS)


@pytest.mark.parametrize("given", [{"preset": "quick"}, {"settings": {"epochs": 7}}])
def test_a_stated_length_is_kept(given: dict[str, Any]) -> None:
    made = schedule(50.0, **given)
    assert made.settings.time_limit is None
    assert made.settings.epochs == given.get("settings", {"epochs": 20})["epochs"]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"hours": 0.0}, "above 0"),
        ({"hours": math.nan}, "above 0"),
        ({"hours": 1.0, "settings": {"epochs": 3}}, "both decide"),
        ({"hours": 1.0, "scheduler": "tcp://host:1"}, "speed of other machines"),
        ({"devices": ("cpu",), "scheduler": "tcp://host:1"}, "either here or on the cluster"),
        ({"folds": (5,)}, "folds are 0 to 4"),
        ({"folds": ("some",)}, "folds are 0 to 4"),
        ({"networks": ("resnet",)}, "plan holds se, baseline"),
        ({"configurations": ("4d",)}, "plan holds 3d_fullres"),
        ({"preset": "fastest"}, "fastest"),
        ({"settings": {"epoch": 3}}, "epoch"),
    ],
)
def test_wrong_options_are_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        schedule(**given)


def test_a_single_case_is_trained_as_fold_all() -> None:
    plan = plan_of("se")
    wishes = Wishes.of(RunOptions(preset="quick"), plan, folds=0, on_gpu=False)
    assert [training.fold for training in make_schedule(wishes, {}, plan, {}).trainings] == ["all"]


def test_second_networks_of_cascades_start_after_all_folds_of_the_first() -> None:
    plan = plan_of("se")
    second = plan.configurations["3d_fullres"].model_copy(update={"previous": "3d_fullres"})
    plan = plan.model_copy(update={"configurations": {**plan.configurations, "3d_cascade_fullres": second}})
    options = RunOptions(preset="quick", configurations=("3d_cascade_fullres", "3d_fullres"), folds=(0, 1))
    made = make_schedule(Wishes.of(options, plan, FOLDS, on_gpu=False), {}, plan, {}).trainings
    assert [(each.configuration, each.fold) for each in made] == [
        ("3d_fullres", 0),
        ("3d_fullres", 1),
        ("3d_cascade_fullres", 0),
        ("3d_cascade_fullres", 1),
    ]
    assert [len(stage) for stage in stages(made)] == [2, 2]


def test_a_model_that_cannot_be_timed_is_not_fitted_into_hours() -> None:
    options, plan = RunOptions(hours=2.0), plan_of("se", "baseline")
    speeds = {("3d_fullres", "se"): Speed(1.0, 50.0, 20.0, 30.0)}
    with pytest.raises(InputError, match="3d_fullres_baseline: its steps cannot be timed"):
        make_schedule(Wishes.of(options, plan, FOLDS, on_gpu=False), {}, plan, speeds)


def test_a_schedule_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = schedule(hours=1.0)
    made.write(tmp_path / "schedule.json")
    assert Schedule.read(tmp_path / "schedule.json") == made
