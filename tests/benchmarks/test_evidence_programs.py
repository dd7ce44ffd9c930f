"""The programs that compare trained networks: how cases are drawn, and what the tables make of the runs."""

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks.designs import learning
from benchmarks.designs.learning_results import columns_of, draw_losses, rows_of
from benchmarks.designs.spread_widths import SpreadConvolution, spread_widths
from benchmarks.evidence import evidence, few_cases, losses, partial_labels
from benchmarks.evidence.conditions import Condition, draw
from benchmarks.pages import docs_tables
from benchmarks.sizes import scale_robustness
from inference.evaluation.scores import EvaluationResult, LabelScores, Mean
from preprocessing.dataset.splits import make_splits

CASES = [f"case{number}" for number in range(8)]


def test_a_seed_draws_the_same_cases_and_fewer_of_them_are_among_more() -> None:
    few, left = draw(CASES, 3, seed=4)
    many, _ = draw(CASES[::-1], 6, seed=4)
    assert set(few) < set(many) and sorted(few + left) == CASES
    assert draw(CASES, 3, seed=6)[0] != few


def test_an_odd_seed_takes_the_other_half() -> None:
    first, second = draw(CASES, 4, seed=2), draw(CASES, 4, seed=3)
    assert first == second[::-1]


def test_labels_are_removed_at_random_or_from_most_cases() -> None:
    raw = SimpleNamespace(
        cases=dict.fromkeys(f"case{number:03d}" for number in range(50)), description=SimpleNamespace(foreground=("a", "b"))
    )
    training = make_splits(list(raw.cases))[0].training
    each = partial_labels.removed_labels(raw, seed=1)  # type: ignore[arg-type]
    assert list(each) == list(training) and set(each.values()) == {"a", "b"}
    rare = partial_labels.removed_labels(raw, seed=1, rare=0.2)  # type: ignore[arg-type]
    assert set(rare) < set(training) and len(rare) == 32 and set(rare.values()) == {"b"}
    assert rare != partial_labels.removed_labels(raw, seed=2, rare=0.2)  # type: ignore[arg-type]


def test_names_tell_conditions_apart() -> None:
    conditions = [Condition(network, scaling, 10, 0) for network in ("se", "se4") for scaling in (True, False)]
    assert len({condition.name for condition in conditions}) == 4


def run(seed: int, dice: object, network: str = "se") -> dict:
    return {"network": network, "scaling": True, "cases": 10, "seed": seed, "steps": 100, "dice": dice}


def test_few_cases_are_summed_up_over_seeds() -> None:
    (row,) = few_cases.rows_of([run(0, 0.7), run(1, 0.8)])
    assert (row["seeds"], row["lowest"], row["highest"]) == (2, 0.7, 0.8) and row["mean_dice"] == pytest.approx(0.75)
    assert len(few_cases.rows_of([run(0, 0.7), run(0, 0.7, "baseline")])) == 2


def test_a_line_far_below_the_others_is_named_and_flattens_none(tmp_path: Path) -> None:
    runs = [run(0, dice, network) | {"cases": cases} for network, dice in (("se", 0.8), ("nnU-Net", 0.0)) for cases in (5, 10)]
    few_cases.draw(few_cases.rows_of(runs), tmp_path / "figure.svg")
    figure = (tmp_path / "figure.svg").read_text()
    assert "nnU-Net, 100 steps: 0.00" in figure and "0.80" in figure and "0.40" not in figure


@pytest.mark.parametrize("whole", [False, True])
def test_each_program_of_the_evidence_takes_its_arguments(
    whole: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    programs = evidence.programs(Path("data"), Path("output"), whole, Path("python"))
    assert {words[0] for words in programs} == {
        "evidence.few_cases",
        "sizes.scale_robustness",
        "cost.cost",
        "sizes.equivariance",
    }
    for name, *words in programs:
        monkeypatch.setattr("sys.argv", [name, *words, "--no-such-option"])
        with pytest.raises(SystemExit):
            import_module(f"benchmarks.{name}").main()
        assert capsys.readouterr().err.endswith("unrecognized arguments: --no-such-option\n")


def test_the_worst_size_counts_only_between_the_judged_ones() -> None:
    curve = {"0.5": 0.1, "0.6": 0.5, "1": 0.9, "2": 0.2}
    (row,) = scale_robustness.rows_of([run(0, {"none": curve})])
    assert row["worst"] == 0.5 and row["drop"] == pytest.approx(0.4)


def test_ways_of_ensembling_stand_beside_each_other() -> None:
    common = {"design": "plain", "steps": 10, "parameters": 1, "losses": []}
    runs = [{**common, "seed": seed, "dice": {"single": {"1.0": 0.5 + seed / 10}, "confidence": {"1.0": 0.8}}} for seed in (0, 1)]
    del runs[1]["dice"]["confidence"]
    (row,) = rows_of(runs)
    assert row["1.0"] == "0.550 (0.500-0.600)" and row["1.0 conf"] == "0.800"
    assert list(columns_of(runs)) == ["design", "cases", "steps", "seeds", "parameters", "1.0", "1.0 conf"]


@pytest.mark.parametrize("page", docs_tables.PAGES, ids=lambda page: page.name)
def test_tables_in_the_docs_are_those_that_were_measured(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert docs_tables.filled(text) == text, "run `python -m benchmarks.pages.docs_tables`"


def test_a_figure_that_was_not_measured_is_seen() -> None:
    page = "before\n<!-- table: training_speed -->\n| se | 0.01 |\n<!-- end of table -->\nafter"
    assert docs_tables.filled(page) != page and docs_tables.filled(page).startswith(
        "before\n<!-- table: training_speed -->\n| network"
    )


def test_the_smallest_labels_are_judged_apart() -> None:
    labels = {"large": (900.0, 0.9), "middle": (90.0, 0.5), "small": (9.0, 0.2), "absent": (0.0, None)}
    values = dict.fromkeys(("iou", "precision", "recall", "volume_error"))
    case = {
        name: LabelScores(dice=dice, predicted_volume=0.0, reference_volume=volume, **values)
        for name, (volume, dice) in labels.items()
    }
    means = {name: {"dice": Mean(value=dice, cases=1, undefined=0)} for name, (_, dice) in labels.items()}
    found = EvaluationResult(mean_foreground_dice=0.5, tolerance=None, means=means, cases={"a": case, "b": case})
    assert losses.smallest_labels(found) == ["absent"]
    assert losses.dice_of(found, ["middle", "small"]) == pytest.approx(0.35)
    assert losses.dice_of(found, ["absent"]) == 0


def test_spread_widths_blur_groups_of_channels_differently() -> None:
    torch.manual_seed(0)
    network = learning.build("se1:spread=learned").eval()
    spread = [module for module in network.modules() if isinstance(module, SpreadConvolution)]
    image = torch.randn(1, 1, 16, 16, 16)
    network(image).square().sum().backward()
    assert spread and all(one.log_blurs.grad is not None and one.log_blurs.grad.abs().min() > 0 for one in spread)
    assert not any(
        one.log_blurs.requires_grad for one in learning.build("se1:spread=fixed").modules() if isinstance(one, SpreadConvolution)
    )


def test_spread_widths_of_the_convolution_itself_change_nothing() -> None:
    torch.manual_seed(0)
    plain = learning.build("se1").eval()
    expected = plain(image := torch.randn(1, 1, 16, 16, 16))
    spread = spread_widths(plain, 0.8, learned=False)
    assert not torch.allclose(spread(image), expected, atol=1e-2)  # the control
    for module in spread.modules():
        if isinstance(module, SpreadConvolution):
            module.log_blurs.fill_(-9.0)
    torch.testing.assert_close(spread(image), expected)


def test_curves_of_losses_are_those_of_most_cases(tmp_path: Path) -> None:
    common = {"design": "se1", "steps": 40, "parameters": 1, "dice": {}}
    runs = [{**common, "cases": cases, "seed": seed, "losses": [1.0] * 40} for cases, seed in ((10, 0), (25, 0), (25, 1))]
    draw_losses(runs, tmp_path / "losses.svg", ["se1"])
    assert "se1 (2 seeds)" in (tmp_path / "losses.svg").read_text()
