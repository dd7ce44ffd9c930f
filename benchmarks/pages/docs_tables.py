"""Write the tables of docs/ and README from the measurements in docs/measurements, so that no figure is typed by hand.

python -m benchmarks.pages.docs_tables            # fill in the text between `<!-- table: NAME -->` and `<!-- end of table -->`
python -m benchmarks.pages.docs_tables --check    # only name outdated pages; the exit code is 1 if there are any
"""

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from textwrap import indent
from typing import Any

import numpy as np

from benchmarks.common.measurement_tables import read_table
from benchmarks.common.tables import markdown, text_table
from benchmarks.cost import cost
from benchmarks.designs.learning_results import columns_of, in_order, rows_of
from benchmarks.evidence import few_cases, fine_tuning, losses, other_spacing, partial_labels, slices_back, thick_slices
from benchmarks.length import tables as length
from benchmarks.length.runs import STEPS
from benchmarks.nnunet import import_parity, prediction_speed
from benchmarks.sizes import equivariance, planned_ranges, published, scale_robustness, size_search, unseen_sizes
from configs.files import write_text

ROOT = Path(__file__).parents[2]
MEASURED = ROOT / "docs" / "measurements"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
PLACE = re.compile(r"(?P<head><!-- table: (?P<name>\w+) -->\n).*?(?P<tail><!-- end of table -->)", re.DOTALL)


def main() -> int:
    """Fill in or check all pages. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    stale = {
        page: text for page in PAGES if (text := filled(page.read_text(encoding="utf-8"))) != page.read_text(encoding="utf-8")
    }
    for page, text in stale.items():
        print(f"{page.relative_to(ROOT)} {'is out of date' if arguments.check else 'was filled in'}")
        if not arguments.check:
            write_text(page, text)
    return int(arguments.check and bool(stale))


def filled(page: str) -> str:
    """Return a page with its tables as measured.

    Raises:
        KeyError: the page asks for a table that this program does not make.
    """
    return PLACE.sub(lambda place: f"{place['head']}{TABLES[place['name']]()}\n{place['tail']}", page)


def learning() -> str:
    """Return the table of all finished runs of `benchmarks.designs.learning`."""
    results = in_order(read_table(MEASURED / "architecture" / "learning.csv"))
    return indent(text_table(rows_of(results), columns_of(results)), "    ")


def training_parity() -> str:
    """Return the table of the Dice after the same training here and in nnU-Net."""
    columns = {
        "network": "{}",
        "seeds": "{:d}",
        "mean_dice": "{:.3f}",
        "lowest": "{:.3f}",
        "highest": "{:.3f}",
        "difference": "{:+.3f}",
    }
    return markdown(read_table(MEASURED / "nnunet" / "training_parity.csv"), columns)


def training_speed() -> str:
    """Return the table of the seconds of a training step here and in nnU-Net."""
    columns = {
        "network": "{}",
        "seconds_per_step": "{:.2f}",
        "data_wait_share": "{:.1%}",
        "ratio": "{:.2f}",
        "ratio_to_baseline": "{:.2f}",
    }
    return markdown(read_table(MEASURED / "nnunet" / "training_speed.csv"), columns)


def at_sizes(name: str) -> str:
    """Return the table of both networks after one training: validation cases at several sizes, by way of scale ensembling."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for point in read_table(MEASURED / "architecture" / f"{name}.csv"):
        ensemble = point["ensemble"]
        way = ensemble if isinstance(ensemble, str) else "none" if len(ensemble) == 1 else "mean"
        is_first = not any(network == point["network"] for network, _ in rows)
        facts = {"parameters": point["parameters"], "dice": point["validation_dice"]} if is_first else {}
        row = rows.setdefault(
            (point["network"], way), {"network": point["network"] if is_first else None, "scale_ensembling": way} | facts
        )
        row[f"{point['scale']:g}"] = point["mean_foreground_dice"]
    sizes = [column for column in next(iter(rows.values())) if column[0].isdigit()]
    columns = {"network": "{}", "parameters": "{:,}", "dice": "{:.3f}", "scale_ensembling": "{}"} | dict.fromkeys(sizes, "{:.3f}")
    return markdown(list(rows.values()), columns)


def few() -> str:
    """Return the table of the Dice by the number of training cases."""
    return markdown(few_cases.rows_of(read_table(MEASURED / "evidence" / "few_cases.csv")), few_cases.COLUMNS)


def sizes(name: str) -> str:
    """Return the table of the Dice by the size of the anatomy."""
    rows = scale_robustness.rows_of(read_table(MEASURED / "sizes" / f"{name}.csv"))
    return markdown(rows, scale_robustness.columns_of(rows))


def long_training() -> str:
    """Return the table of the long trainings that have finished."""
    points = length.read_rows(MEASURED / "evidence" / "long_training.csv", length.POINT)
    cases = length.read_rows(MEASURED / "evidence" / "long_training_cases.csv", length.CASE)
    done = {run for run in map(length.run_of, points) if run.steps == STEPS and length.is_finished(points, run)}
    points, cases = ([row for row in rows if length.run_of(row) in done] for rows in (points, cases))
    return markdown(length.summary(points, cases), length.COLUMNS)


def roofline() -> str:
    """Return the table of the load of networks on a GPU, one row for each state of the software."""
    columns = {"network": "{}", "state": "{}", "planned_gib": "{:.1f}", "float32_gib": "{:.1f}", "bf16_gib": "{:.1f}"}
    for part in ("step", "tiles"):
        columns |= {f"{part}_launches": "{:,.0f}", f"{part}_gb": "{:.0f}", f"{part}_ms": "{:.1f}"}
    rows = read_table(MEASURED / "cost" / "roofline.csv")
    names = list(dict.fromkeys(row["network"] for row in rows))
    return markdown(sorted(rows, key=lambda row: (names.index(row["network"]), row["state"])), columns)


def learning_rates() -> str:
    """Return the table of the validation Dice of both networks by the learning rate of the preset `quick`."""
    groups: dict[tuple[int, float, str], list[float]] = {}
    for row in read_table(MEASURED / "architecture" / "learning_rates.csv"):
        groups.setdefault((row["cases"], row["learning_rate"], row["network"]), []).append(row["dice"])
    rows = [
        {"cases": cases, "learning_rate": rate, "network": network, "seeds": len(dice), "mean_dice": float(np.mean(dice)),
         "each": ", ".join(f"{value:.3f}" for value in dice)}
        for (cases, rate, network), dice in sorted(groups.items())
    ]  # fmt: skip
    columns = {"cases": "{:d}", "learning_rate": "{:g}", "network": "{}", "seeds": "{:d}", "mean_dice": "{:.3f}", "each": "{}"}
    return markdown(rows, columns)


def costs() -> str:
    """Return the table of the planned networks."""
    shown = ("network", "parameters", "step_s", "step_ratio", "step_memory_mb", "prediction_us_per_voxel", "prediction_ratio",
             "prediction_memory_mb")  # fmt: skip
    return markdown(read_table(MEASURED / "cost" / "cost.csv"), {name: cost.COLUMNS[name] for name in shown})


def equivariance_of_trained() -> str:
    """Return the table of equivariance errors of trained networks: a row for each kind of training, with the mean over its models."""
    errors = equivariance.pooled(read_table(MEASURED / "sizes" / "equivariance.csv"))
    rows = [row for row in errors if row["kind"] == equivariance.TRAINED]
    factors = list(rows[0]["errors"])
    columns = {"name": "{}", "on": "{}", "models": "{:d}"} | dict.fromkeys([*factors, "mean"], "{:.3f}")
    return markdown([row | row["errors"] for row in rows], columns)


def slices() -> str:
    """Return the table of ways back across thick slices: means over cases, for sharp labels and for labels blurred by one voxel."""
    rows = slices_back.over_cases(read_table(MEASURED / "evidence" / "slices_back.csv"))
    return markdown([row for row in rows if row["softness"] <= 1], slices_back.COLUMNS)


def measured(folder: str, name: str, columns: Mapping[str, str]) -> str:
    """Return a table of a folder of `docs/measurements` as it was measured."""
    return markdown(read_table(MEASURED / folder / f"{name}.csv"), columns)


def contradictions() -> str:
    """Return the table of what each path that reads images does with each kind of contradictory input, from the table of the tests."""
    from tests.preprocessing.gate.kinds import KINDS  # not in a wheel

    return markdown(
        [
            {
                "input": kind.name,
                "planning": kind.outcome("planning"),
                "prediction": kind.outcome("prediction"),
                "in memory": kind.outcome("nibabel", "SimpleITK", "array"),
                "evaluation": kind.outcome("evaluation"),
                "message or result": kind.result or f"`... {kind.fault} ...`",
            }
            for kind in KINDS
        ],
        dict.fromkeys(("input", "planning", "prediction", "in memory", "evaluation", "message or result"), "{}"),
    )


TABLES: dict[str, Callable[[], str]] = {
    "learning": learning,
    "quick": partial(at_sizes, "quick"),
    "phantoms": partial(at_sizes, "phantoms"),
    "training_parity": training_parity,
    "training_speed": training_speed,
    "few_cases": few,
    "scale_robustness": partial(sizes, "scale_robustness"),
    "second_dataset": partial(sizes, "second_dataset"),
    "learning_rates": learning_rates,
    "cost": costs,
    "contradictions": contradictions,
    "equivariance": equivariance_of_trained,
    "size_search": partial(measured, "sizes", "size_search", size_search.COLUMNS),
    "long_training": long_training,
    "roofline": roofline,
    "slices_back": slices,
    "thick_slices": partial(measured, "evidence", "thick_slices", thick_slices.COLUMNS),
    "planned_ranges": partial(measured, "sizes", "planned_ranges", planned_ranges.COLUMNS),
    "published": partial(measured, "sizes", "published", published.COLUMNS),
    "unseen_sizes": partial(measured, "sizes", "unseen_sizes", unseen_sizes.BY_SIZE),
    "fine_tuning": partial(measured, "evidence", "fine_tuning", fine_tuning.COLUMNS),
    "losses": partial(measured, "evidence", "losses", losses.COLUMNS),
    "partial_labels": partial(measured, "evidence", "partial_labels", partial_labels.COLUMNS),
    "other_spacing": partial(measured, "evidence", "other_spacing", other_spacing.COLUMNS),
    "import_parity": partial(measured, "nnunet", "import_parity", import_parity.COLUMNS),
    "prediction_speed": partial(measured, "nnunet", "prediction_speed", prediction_speed.COLUMNS),
    "unseen_quality": partial(measured, "sizes", "unseen_quality", unseen_sizes.OF_QUALITY),
}


if __name__ == "__main__":
    sys.exit(main())
