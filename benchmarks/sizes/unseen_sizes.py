"""Default prediction of unseen cases whose anatomy was made smaller and larger, against prediction without a search of the size.

    python -m benchmarks.sizes.unseen_sizes measure MODEL DATASET RESULTS.json [--sizes 0.6 0.8 1 1.25 1.6] [--most 12] [--forced]
    python -m benchmarks.sizes.unseen_sizes cost MODEL DATASET [--sizes 1 1.6] [--most 8]
    python -m benchmarks.sizes.unseen_sizes tables RESULTS.json ... [--sizes-csv FILE] [--quality-csv FILE]
    python -m benchmarks.sizes.unseen_sizes draw SIZES.csv FIGURE.svg --results NAME ...

MODEL is a calibrated model; DATASET has `imagesTs` and `labelsTs`, or with `--images Tr` cases that the model did not train on. Each case
is segmented as `se_predict` does by default, and without the search. With `--forced`, each case is
also searched although nothing is doubtful. `--controls` adds images without the anatomy: blank ones, noise, and the cases' own voxels in
random order. RESULTS keeps what is done, and a further call adds what is missing. `cost` predicts the cases in turn by default and
without the search, five times each, and prints the median ratio of the times.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.common.measurement_tables import read_table
from benchmarks.common.tables import show_table, text_table
from benchmarks.sizes.size_figure import draw_over_sizes
from configs.files import read_json, write_json
from configs.folders import ModelFolder
from inference import PredictionOptions, Predictor
from inference.engine.assemble import Segmentation
from inference.evaluation.label_files import load_description
from inference.evaluation.robustness import ValidationCase, rescale, stored_values
from inference.evaluation.scores import score_case
from inference.model import Model, load_model
from inference.sizes.quality import Quality
from preprocessing.dataset.labels import to_class_indices
from preprocessing.dataset.raw import find_cases
from preprocessing.formats.images import read_image, read_labels

Row = dict[str, Any]
SIZES = (0.5, 0.6, 0.7, 0.8, 1.0, 1.25, 1.6, 2.0)
CONTROLS = ("blank", "noise", "shuffled")
WAYS = {"default": ("-", "by default"), "without_search": (":", "without the search of the size")}
BY_SIZE = {
    "results": "{}",
    "size": "{:.2f}",
    "cases": "{}",
    "without_search": "{:.3f}",
    "default": "{:.3f}",
    "forced": "{:.3f}",
    "worst_change": "{:+.3f}",
    "moved": "{:.0%}",
    "flagged": "{:.0%}",
    "error_of_expected": "{:.3f}",
}
OF_COST = {"size": "{:.2f}", "reflections": "{}", "cases": "{}", "moved": "{}", "ratio": "{:.2f}"}
OF_QUALITY = {
    "results": "{}",
    "cases": "{}",
    "correlation": "{:.2f}",
    "correlation_without_search": "{:.2f}",
    "error": "{:.3f}",
    "error_at_natural_size": "{:.3f}",
    "in_interval": "{:.0%}",
    "worst_tenth_in_lowest_fifth": "{:.0%}",
    "controls_flagged": "{}",
}


def main(words: Sequence[str] | None = None) -> int:
    """Measure, or print the tables of what was measured. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    cost = commands.add_parser("cost", help="compare times")
    measure = commands.add_parser("measure", help="segment cases")
    for command, most in ((cost, 8), (measure, None)):
        command.add_argument("model", type=Path, help="model folder")
        command.add_argument("dataset", type=Path, help="folder of the raw dataset")
        command.add_argument("--sizes", type=float, nargs="+", default=SIZES, help="factors of the anatomy's size")
        command.add_argument("--most", type=int, default=most, help="largest number of cases; default: %(default)s")
        command.add_argument("--images", default="Ts", choices=["Ts", "Tr"], help="part of the dataset")
        command.add_argument("--cases", nargs="+", help="names of the cases; default: all")
        command.add_argument("--fold", help="take this fold's network alone, with --images Tr on its own validation cases")
    measure.add_argument("results", type=Path, help="JSON file of the results")
    measure.add_argument("--no-mirror", action="store_true", help="do not average over reflections")
    measure.add_argument("--forced", action="store_true", help="also search every case")
    measure.add_argument("--controls", action="store_true", help="also segment images without the anatomy")
    tables = commands.add_parser("tables", help="print tables")
    tables.add_argument("results", type=Path, nargs="+", help="JSON files of results")
    tables.add_argument("--sizes-csv", type=Path, help="CSV file of the table by size")
    tables.add_argument("--quality-csv", type=Path, help="CSV file of the table of the expected Dice")
    figure = commands.add_parser("draw", help="draw the Dice over the size")
    figure.add_argument("table", type=Path, help="CSV file of the table by size")
    figure.add_argument("figure", type=Path, help="SVG file to write")
    figure.add_argument("--results", nargs="+", required=True, help="names of the results to draw")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    if given.command == "measure":
        measure_cases(given)
        return 0
    if given.command == "draw":
        rows = [row for name in given.results for row in read_table(given.table) if row["results"] == name]
        draw_over_sizes(rows, given.figure, "results", WAYS, "unseen cases")
        return 0
    if given.command == "cost":
        print(text_table(cost_rows(given), OF_COST))
        return 0
    for make, columns, path in ((rows_by_size, BY_SIZE, given.sizes_csv), (quality_rows, OF_QUALITY, given.quality_csv)):
        rows = [row for results in given.results for row in make(results)]
        show_table(rows, columns, path)
        print()
    return 0


def measure_cases(given: argparse.Namespace) -> None:
    """Segment each case at each size that the results do not hold yet."""
    found: list[Row] = read_json(given.results) if given.results.is_file() else []
    done = {(row["case"], row["size"]) for row in found}
    ways = [PredictionOptions(mirror=not given.no_mirror, search=search) for search in ("auto", "never", "always")]
    model = _model(given)
    default, without, forced = (Predictor(model, "cpu", way) for way in ways)
    for case in _cases(given, default):
        for size in given.sizes:
            if (case.identifier, size) not in done:
                image, truth, geometry = rescale(case, size)
                answer = default.segment(image, geometry, where=f"case `{case.identifier}`")
                row = {"case": case.identifier, "size": size, **_quality(answer.quality)}
                still = without.segment(image, geometry)
                row |= {"dice": _dice(answer, truth, default, geometry.spacing)}
                row |= {"without_search": _dice(still, truth, default, geometry.spacing)}
                row |= {"expected_without_search": None if still.quality is None else still.quality.mean}
                if given.forced:
                    row["forced"] = _dice(forced.segment(image, geometry), truth, default, geometry.spacing)
                found.append(row)
        for control in CONTROLS if given.controls else ():
            if (case.identifier, control) not in done:
                image = _without_anatomy(control, case.image)
                answer = default.segment(image, case.geometry)
                found.append({"case": case.identifier, "size": control, **_quality(answer.quality)})
        write_json(given.results, found)
        print(f"{case.identifier}: done", flush=True)


def cost_rows(given: argparse.Namespace) -> list[Row]:
    """Return for each size, with and without reflections, the median ratio of the time by default to that without the search."""
    rows, model = [], _model(given)
    for size, mirror in product(given.sizes, (True, False)):
        default, without = (
            Predictor(model, "cpu", PredictionOptions(mirror=mirror, search=search)) for search in ("auto", "never")
        )
        cases = [rescale(case, size) for case in _cases(given, default)]
        ratios = [_seconds(default, cases) / _seconds(without, cases) for _ in range(5)]
        moved = sum(
            (quality := default.segment(image, geometry).quality) is not None and quality.size != 1
            for image, _, geometry in cases
        )
        rows.append(
            {"size": size, "reflections": mirror, "cases": len(cases), "moved": moved, "ratio": statistics.median(ratios)}
        )
    return rows


def _seconds(predictor: Predictor, cases: Sequence[tuple[Any, Any, Any]]) -> float:
    start = time.perf_counter()
    for image, _, geometry in cases:
        predictor.segment(image, geometry)
    return time.perf_counter() - start


def _model(given: argparse.Namespace) -> Model:
    """Load the model, or one fold of it."""
    return load_model(given.model, None if given.fold is None else [given.fold])


def _cases(given: argparse.Namespace, predictor: Predictor) -> Iterator[ValidationCase]:
    description = load_description(given.dataset / "dataset.json")
    files = find_cases(given.dataset / f"images{given.images}", description)
    chosen = given.cases
    if not chosen and given.fold is not None and given.images == "Tr":
        chosen = read_json(ModelFolder(given.model).fold(given.fold).split)["validation"]
    for identifier in [name for name in files if not chosen or name in chosen][: given.most]:
        image, geometry = read_image(list(files[identifier]))
        labels, _ = read_labels(given.dataset / f"labels{given.images}" / f"{identifier}{description.file_ending}")
        yield ValidationCase(identifier, "0", image, to_class_indices(labels, predictor.description), geometry)


def _without_anatomy(control: str, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return an image (C, Z, Y, X) of the same kind in which there is nothing to find."""
    chance = np.random.default_rng(0)
    if control == "blank":
        return np.full_like(image, image.mean())
    if control == "noise":
        return chance.normal(image.mean(), image.std(), image.shape).astype(np.float32)
    return chance.permuted(image.reshape(len(image), -1), axis=1).reshape(image.shape)


def _quality(quality: Quality | None) -> Row:
    if quality is None:
        return {}
    labels = {name: None if one is None else [one.dice, one.low, one.high] for name, one in quality.expected.items()}
    return {"expected": quality.mean, "labels": labels, "found_size": quality.size, "doubts": list(quality.doubts)}


def _dice(
    answer: Segmentation, truth: NDArray, predictor: Predictor, spacing: tuple[float, float, float]
) -> dict[str, float | None]:
    scores = score_case(answer.labels, stored_values(truth, predictor.description), predictor.description, spacing)
    return {name: score.dice for name, score in scores.items()}


def rows_by_size(results: Path) -> list[Row]:
    """Return a row for each size of the anatomy."""
    rows = _measured(results)
    return [
        _of_size(results.stem, size, [row for row in rows if row["size"] == size])
        for size in sorted({row["size"] for row in rows})
    ]


def _measured(results: Path) -> list[Row]:
    return [row for row in read_json(results) if "dice" in row]


def _of_size(name: str, size: float, rows: Sequence[Row]) -> Row:
    default, without = (np.array([_mean(row[way]) for row in rows]) for way in ("dice", "without_search"))
    forced = [_mean(row["forced"]) for row in rows if "forced" in row]
    expected = [row for row in rows if "expected" in row]
    return {
        "results": name,
        "size": size,
        "cases": len(rows),
        "without_search": float(without.mean()),
        "default": float(default.mean()),
        "forced": float(np.mean(forced)) if forced else None,
        "worst_change": float((default - without).min()),
        "moved": float(np.mean([row["found_size"] != 1 for row in expected])) if expected else None,
        "flagged": float(np.mean([bool(row["doubts"]) for row in expected])) if expected else None,
        "error_of_expected": float(np.mean([abs(row["expected"] - _mean(row["dice"])) for row in expected]))
        if expected
        else None,
    }


def quality_rows(results: Path) -> list[Row]:
    """Return the row of a model's expected Dice over all sizes; none for a model that is not calibrated."""
    rows = [row for row in _measured(results) if "expected" in row]
    if not rows:
        return []
    expected, dice = np.array([row["expected"] for row in rows]), np.array([_mean(row["dice"]) for row in rows])
    natural = np.array([row["size"] == 1 for row in rows])
    flagged, worst = _lowest(expected, 0.2), _lowest(dice, 0.1)
    controls = [row for row in read_json(results) if row["size"] in CONTROLS]
    still = [(row["expected_without_search"], _mean(row["without_search"])) for row in rows if "expected_without_search" in row]
    return [
        {
            "results": results.stem,
            "cases": len(rows),
            "correlation": float(np.corrcoef(expected, dice)[0, 1]),
            "correlation_without_search": float(np.corrcoef(np.array(still).T)[0, 1]) if len(still) > 1 else None,
            "error": float(np.abs(expected - dice).mean()),
            "error_at_natural_size": float(np.abs(expected - dice)[natural].mean()) if natural.any() else None,
            "in_interval": float(np.mean([inside for row in rows for inside in _inside(row)])),
            "worst_tenth_in_lowest_fifth": len(flagged & worst) / len(worst),
            "controls_flagged": f"{sum(bool(row['doubts']) for row in controls)} of {len(controls)}" if controls else None,
        }
    ]


def _inside(row: Row) -> Iterator[bool]:
    for name, interval in row["labels"].items():
        if interval is not None and row["dice"][name] is not None:
            yield interval[1] <= row["dice"][name] <= interval[2]


def _lowest(values: NDArray[np.float64], share: float) -> set[int]:
    return set(np.argsort(values, kind="stable")[: max(1, round(share * len(values)))].tolist())


def _mean(dice: dict[str, float | None]) -> float:
    return float(np.mean([value for value in dice.values() if value is not None] or [0.0]))


if __name__ == "__main__":
    sys.exit(main())
