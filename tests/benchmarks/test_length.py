"""The program of long comparisons: who trains on what, what is committed, and how it pauses and goes on."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.length import comparison, tables
from benchmarks.length.comparison import OWN, QUEUE, Queue
from benchmarks.length.remedies import OftenTransformed, SmoothFirst
from benchmarks.length.runs import NETWORKS, PEER, RECIPES, Place, Run, draw
from benchmarks.length.scores import Record, loss_of
from configs.dataset import DatasetDescription
from configs.network import ScaleGroup
from configs.plan import ChannelNormalisation, NetworkPlan
from configs.training import load_training_config
from se_unet.layers.mixed import MixedConvolution
from tests.se_unet.networks import config
from trainers.augmentation.planned import make_augmentation

CASES = [f"case{number:02d}" for number in range(12)]
RUN = Run("se", 10, 0, steps=600)


def place_in(folder: Path) -> Place:
    return Place(Path("Dataset001_None"), folder, Path("python"))


def content(dice: float, steps: tuple[int, ...] = (300, 600), spread: float = 0.1) -> dict:
    scores = {case: dice + spread * index for index, case in enumerate(CASES)}
    curve: list[dict] = [{"step": step, "training_loss": -0.5, "seconds": 1.0} for step in steps]
    curve[-1] |= {"dice_raw": dice, "dice_averaged": dice + 0.01, "validation_loss_raw": -0.4, "validation_loss_averaged": -0.4}
    finished = {"finished": "now", "commit": "abc"} if steps[-1] == RUN.steps else {}
    return {"curve": curve, "validation": {"raw": scores, "averaged": scores}, "test": {"averaged": scores}} | finished


def rows_of(contents: dict[Run, dict]) -> tuple[list, list]:
    points = [row for run, one in contents.items() for row in tables.point_rows(run, one)]
    return points, [row for run, one in contents.items() for row in tables.case_rows(run, one)]


def test_a_seed_draws_the_same_cases_for_all_and_fewer_of_them_are_among_more() -> None:
    assert set(draw(CASES, 3, 1)) < set(draw(CASES[::-1], 6, 1)) and draw(CASES, 12, 1) == CASES
    assert draw(CASES, 3, 2) != draw(CASES, 3, 1)


def test_names_tell_runs_apart_and_all_of_the_queue_can_be_trained() -> None:
    assert len({run.name for run in QUEUE}) == len(QUEUE) == len(set(QUEUE))
    assert {run.network for run in QUEUE} <= {*NETWORKS, PEER}
    assert all(run.recipe == OWN if run.network == PEER else run.recipe in RECIPES for run in QUEUE)
    for recipe in RECIPES.values():
        load_training_config("quick", recipe)


def test_the_loss_of_a_perfect_answer_is_the_lowest() -> None:
    description = DatasetDescription(name="toy", channels=("MR",), labels={"background": 0, "one": 1})
    truth = np.zeros((2, 3, 4), np.int16)
    truth[0] = 1
    perfect = np.stack([truth == 0, truth == 1]).astype(np.float32)
    losses = [loss_of(share * perfect + (1 - share) * perfect[::-1], truth, description) for share in (1, 0.9, 0.5, 0)]
    assert losses == sorted(losses) and losses[0] == pytest.approx(-1, abs=1e-5)


def test_a_record_keeps_its_points_in_order_and_puts_new_values_in_place_of_old_ones(tmp_path: Path) -> None:
    record = Record.open(tmp_path / "record.json")
    record.put_point(600, {"loss": 1})
    record.put_point(300, {"loss": 2})
    record.put_point(600, {"loss": 3, "dice": 4})
    assert Record.open(record.path).content["curve"] == [{"step": 300, "loss": 2}, {"step": 600, "loss": 3, "dice": 4}]


def test_what_is_committed_stays_where_the_work_folder_is_gone_and_is_replaced_where_it_goes_on(tmp_path: Path) -> None:
    files = tmp_path / "points.csv", tmp_path / "cases.csv"
    old, new = RUN, replace(RUN, seed=1)
    for run, dice in ((old, 0.5), (new, 0.6)):
        Record.open(place_in(tmp_path / "first").record(run)).put(**content(dice, steps=(300, 450)))
    tables.collect([old, new], place_in(tmp_path / "first"), *files)
    Record.open(place_in(tmp_path / "second").record(new)).put(**content(0.7))
    tables.collect([old, new], place_in(tmp_path / "second"), *files)
    points = tables.read_rows(files[0], tables.POINT)
    assert {(row["seed"], row["step"], row["dice_raw"]) for row in points} == {
        (0, 300, None), (0, 450, 0.5), (1, 300, None), (1, 600, 0.7),
    }  # fmt: skip
    assert tables.is_finished(points, new) and not tables.is_finished(points, old)
    assert len(tables.read_rows(files[1], tables.CASE)) == 2 * 3 * len(CASES)


def test_collecting_twice_changes_nothing(tmp_path: Path) -> None:
    files = tmp_path / "points.csv", tmp_path / "cases.csv"
    Record.open(place_in(tmp_path).record(RUN)).put(**content(0.5))
    tables.collect([RUN], place_in(tmp_path), *files)
    before = [file.read_bytes() for file in files]
    tables.collect([RUN], place_in(tmp_path), *files)
    assert [file.read_bytes() for file in files] == before


def test_differences_are_paired_over_cases_and_test_cases_stay_sealed() -> None:
    baseline = replace(RUN, network="baseline")
    points, cases = rows_of({RUN: content(0.32), baseline: content(0.3)})
    row, reference = tables.summary(points, cases)
    # Cases differ by far more than the networks do: only pairs tell the networks apart.
    assert row["above_baseline"] == pytest.approx(0.02) and 0.019 < row["low"] <= row["high"] < 0.021
    assert "above_baseline" not in reference and not any(name.startswith("test") for name in row)
    final = tables.summary(points, cases, final=True)[0]
    assert final["test_above_baseline"] == pytest.approx(0.02)


def test_the_best_point_of_a_curve_is_told_beside_its_last() -> None:
    falling = content(0.5)
    falling["curve"][0] |= falling["curve"][-1] | {"step": 300, "dice_raw": 0.8}
    (row,) = tables.summary(*rows_of({RUN: falling}))
    assert (row["best_raw"], row["last_raw"], row["step"]) == (0.8, 0.5, 600)


def test_an_interval_holds_the_mean_and_narrows_with_agreement() -> None:
    wide, narrow = ([0.5 + width * number for number in (-2, -1, 0, 1, 2)] for width in (0.1, 0.01))
    (low, high), (lower, upper) = tables.interval(wide), tables.interval(narrow)
    assert low < lower < 0.5 < upper < high
    assert tables.interval([0.5, 0.5]) == (0.5, 0.5)


def test_curves_are_drawn_alike_each_time(tmp_path: Path) -> None:
    points, _ = rows_of({RUN: content(0.5), replace(RUN, network="baseline", size=112): content(0.6)})
    for name in ("one.svg", "two.svg"):
        tables.draw(points, tmp_path / name)
    text = (tmp_path / "one.svg").read_text(encoding="utf-8")
    assert "112 training cases" in text and text == (tmp_path / "two.svg").read_text(encoding="utf-8")


def test_free_kernels_take_the_place_of_smooth_ones_in_the_coarser_stages_alone() -> None:
    group = ScaleGroup(smallest_sigma=0.9)
    network = SmoothFirst(config("se", (4, 4, 4, 4), scale_group=group, encoder_blocks=(1,) * 4, decoder_blocks=(1,) * 3))
    kinds = [{type(part) for part in stage.modules()} for stage in network.encoder]
    assert [MixedConvolution in kind for kind in kinds] == [False, False, True, True]
    assert network(torch.zeros(1, 1, 8, 8, 8))[0].shape == (1, 3, 8, 8, 8)


def test_patches_are_transformed_more_often_where_that_is_asked_for() -> None:
    plan = NetworkPlan(network=config("plain"), patch_size=(16, 16, 16), batch_size=2)
    scheme, settings = [ChannelNormalisation(channel="MR", scheme="zscore")], load_training_config("quick")
    shares = []
    for make in (make_augmentation, OftenTransformed):
        augmentation, random = make(plan, scheme, settings), np.random.default_rng(0)
        shares.append(np.mean([augmentation.draw_spatial(random).matrix is not None for _ in range(400)]))
    assert 0.25 < shares[0] < 0.5 and shares[1] == pytest.approx(1 - (1 - 0.36) ** 3, abs=0.1)


class Sleeping(Queue):
    """Its trainings sleep instead of training."""

    def _words(self, run: Run) -> list[str]:
        return [sys.executable, "-c", "import time; time.sleep(60)"]


def state_of(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]


def wait_for(condition: object) -> None:
    end = time.monotonic() + 30
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="states of processes are read from /proc")
def test_trainings_stand_still_while_the_file_is_there_and_another_program_finds_them(tmp_path: Path) -> None:
    pause, run = tmp_path / "pause", QUEUE[0]
    first = Sleeping(place_in(tmp_path), pause)
    first.start(run)
    later = Sleeping(place_in(tmp_path), pause)
    process = first.children[run].pid
    try:
        assert all(later.running() == {run: process} for _ in range(500))  # also while `nice` hands over to Python
        pause.touch()
        later.follow_pause()
        wait_for(lambda: state_of(process) == "T")
        pause.unlink()
        later.follow_pause()
        wait_for(lambda: state_of(process) in "SR")
    finally:
        os.killpg(process, signal.SIGKILL)
    first.children[run].wait()
    assert not first.running() and not later.running()


def test_a_number_that_another_program_has_by_now_is_no_training(tmp_path: Path) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    queue = Sleeping(place_in(tmp_path), tmp_path / "pause")
    try:
        file = tmp_path / "running" / QUEUE[0].name
        file.parent.mkdir()
        file.write_text(f"{stranger.pid} 1")
        assert not queue.running()
    finally:
        stranger.kill()
        stranger.wait()


def test_the_queue_is_done_with_what_is_committed_or_finished_and_gives_up_what_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed, finished, failing = QUEUE[:3]
    started = []

    class Failing(Sleeping):
        def start(self, run: Run) -> None:
            started.append(run)
            self.attempts[run] = self.attempts.get(run, 0) + 1

    monkeypatch.setattr(comparison, "POLL_SECONDS", 0)
    place = place_in(tmp_path)
    Record.open(place.record(finished)).put(finished="now")
    rows = tables.point_rows(committed, {"curve": [{"step": committed.steps, "dice_raw": 0.5}]})
    Failing(place, tmp_path / "pause").run((committed, finished, failing), rows)
    assert started == [failing] * comparison.ATTEMPTS


def test_the_status_names_every_run(tmp_path: Path) -> None:
    Record.open(place_in(tmp_path).record(QUEUE[0])).put(**content(0.5))
    text = comparison.status(Queue(place_in(tmp_path), tmp_path / "pause"), [])
    assert all(run.name in text for run in QUEUE) and "finished" in text and "0.5100" in text
