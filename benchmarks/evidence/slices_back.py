"""Labels to a planned grid and back across thick slices, by three ways: Dice with the labels themselves, and slices that are repeated.

Labels go to the grid as training sees them. A perfect network would answer with them; a real one is unsure at borders. Its answer is
modelled by the labels' indicators, blurred within slices by `--softness` voxels. Probabilities come back by the nearest slice, linearly
across slices, or by `preprocessing.resample.returning_matrix`, and the most probable class wins. Grids are the planned one and such
whose slices are `--factors` times as far apart as those of each case. A repeated pair is two adjacent slices with the same labels, not
empty, that differ in the truth.

    python -m benchmarks.evidence.slices_back DATASET [DATASET ...] --output slices_back.csv
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.common.tables import text_table, write_csv
from configs.fingerprint import Spacing
from configs.plan import ConfigurationPlan
from configs.progress import Silent
from planners.fingerprint.measure import make_fingerprint
from planners.plan import make_plan
from preprocessing.dataset.case import load_case
from preprocessing.dataset.raw import scan_dataset
from preprocessing.pipeline import Preprocessed, Trace, preprocess
from preprocessing.resample import LABEL_ORDER, Matrices, apply_matrices, resampling_matrices, returning_matrices

COLUMNS = {
    "dataset": "{}",
    "grid": "{}",
    "softness": "{:g}",
    "cases": "{}",
    "nearest_dice": "{:.4f}",
    "linear_dice": "{:.4f}",
    "returning_dice": "{:.4f}",
    "better": "{}",
    "worse": "{}",
    "pairs": "{}",
    "nearest_repeated": "{}",
    "linear_repeated": "{}",
    "returning_repeated": "{}",
}


def ways_of(trace: Trace) -> dict[str, Matrices]:
    """Return the matrices of each way back from the planned grid to the cropped image."""
    shapes = trace.resampled_shape, trace.box.shape
    return {
        "nearest": resampling_matrices(*shapes, LABEL_ORDER, trace.separate_axis),
        "linear": resampling_matrices(*shapes, LABEL_ORDER, None),
        "returning": returning_matrices(*shapes, trace.separate_axis),
    }


def measure(dataset: Path, factors: list[float], softness: list[float]) -> Iterator[dict[str, Any]]:
    """Yield one row for each case, grid and softness whose slices are resampled."""
    raw = scan_dataset(dataset)
    plan = make_plan(raw.description, make_fingerprint(raw, 1, Silent(), None))
    planned = plan.configuration("3d_fullres")
    for name, files in raw.cases.items():
        case = load_case(name, files, raw.description)
        if case.labels is None:
            continue
        own = preprocess(case.image, case.labels, case.geometry, planned, plan.orientation).trace.spacing
        for grid, configuration in _grids(planned, own, factors):
            prepared = preprocess(case.image, case.labels, case.geometry, configuration, plan.orientation)
            truth = prepared.trace.box.crop(prepared.trace.orientation.apply(case.labels))
            for blur in softness:
                yield {"dataset": dataset.name, "grid": grid, "softness": blur, "case": name} | _round_trip(prepared, truth, blur)


def _grids(planned: ConfigurationPlan, own: Spacing, factors: list[float]) -> Iterator[tuple[str, ConfigurationPlan]]:
    """Yield the planned grid, and grids with slices that are so many times as far apart as a case's own of spacing (Z, Y, X) in mm."""
    yield "planned", planned
    axis = int(np.argmax(own))
    for factor in factors:
        spacing = [own[axis] * factor if index == axis else step for index, step in enumerate(planned.spacing)]
        yield f"{factor:g} x", planned.model_copy(update={"spacing": tuple(spacing)})


def _round_trip(prepared: Preprocessed, truth: NDArray[np.int16], blur: float) -> dict[str, Any]:
    """Return Dice and repeated pairs of each way; nothing where slices are not resampled across a coarse axis."""
    trace, labels = prepared.trace, prepared.labels
    axis = trace.separate_axis
    if labels is None or axis is None or trace.resampled_shape[axis] == trace.box.shape[axis]:
        return {}
    classes = range(int(max(truth.max(), labels.max())) + 1)
    sigma = [0.0 if index == axis else blur for index in range(3)]
    scores = np.stack([ndimage.gaussian_filter((labels == value).astype(np.float32), sigma) for value in classes])
    found: dict[str, Any] = {}
    for way, matrices in ways_of(trace).items():
        answer = apply_matrices(torch.from_numpy(scores), matrices).argmax(0).numpy()
        found[f"{way}_dice"] = _dice(answer, truth)
        found[f"{way}_repeated"], found["pairs"] = repeated(answer, truth, axis)
    return found


def _dice(answer: NDArray[np.integer], truth: NDArray[np.integer]) -> float:
    """Return the mean Dice over the foreground classes of the truth."""
    values = [value for value in np.unique(truth) if value > 0]
    both = [2 * np.count_nonzero((answer == value) & (truth == value)) for value in values]
    sizes = [np.count_nonzero(answer == value) + np.count_nonzero(truth == value) for value in values]
    return float(np.mean([intersection / size for intersection, size in zip(both, sizes, strict=True)]))


def repeated(labels: NDArray[np.integer], truth: NDArray[np.integer], axis: int) -> tuple[int, int]:
    """Return how many adjacent slices along an axis are alike where the truth's differ, and how many of the truth's differ."""
    slices, true = np.moveaxis(labels, axis, 0), np.moveaxis(truth, axis, 0)
    differ = (true[1:] != true[:-1]).any((1, 2))
    alike = (slices[1:] == slices[:-1]).all((1, 2)) & slices[1:].any((1, 2))
    return int((alike & differ).sum()), int(differ.sum())


def over_cases(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return means of Dice and sums of pairs by dataset, grid and softness; `better` and `worse` count cases beside the nearest slice."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        if "pairs" in row:
            groups.setdefault((row["dataset"], row["grid"], row["softness"]), []).append(row)
    return [dict(zip(("dataset", "grid", "softness"), key, strict=True)) | _totals(group) for key, group in groups.items()]


def _totals(group: list[dict[str, Any]]) -> dict[str, Any]:
    gains = [row["returning_dice"] - row["nearest_dice"] for row in group]
    counts = {"cases": len(group), "better": sum(gain > 0 for gain in gains), "worse": sum(gain < 0 for gain in gains)}
    dice = {name: float(np.mean([row[name] for row in group])) for name in COLUMNS if name.endswith("dice")}
    return counts | dice | {name: sum(row[name] for row in group) for name in COLUMNS if "repeated" in name or name == "pairs"}


def main() -> None:
    """Measure, print the means and write the cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", type=Path, nargs="+", help="folders in the raw layout")
    parser.add_argument(
        "--factors", type=float, nargs="+", default=[0.5, 0.7, 1.5, 2, 3], help="slice distances of further grids"
    )
    parser.add_argument("--softness", type=float, nargs="+", default=[0, 1, 2], help="standard deviations of the blur in voxels")
    parser.add_argument("--output", type=Path, help="CSV with one row for each case")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for dataset in given.datasets for row in measure(dataset, given.factors, given.softness)]
    print(text_table(over_cases(rows), COLUMNS))
    if given.output:
        write_csv([row for row in rows if "pairs" in row], given.output)


if __name__ == "__main__":
    main()
