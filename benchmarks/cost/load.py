"""Observe the memory over many small cases, which are validated and measured, prepared, and segmented one after the other in one process.

    python -m benchmarks.cost.load                   # 2,000 cases of 16 x 16 x 16 voxels, some minutes of one core
    python -m benchmarks.cost.load --cases 200

The resident memory of the process is recorded after each case. It must not grow: the table gives its mean over the second and over the
last tenth of the cases, and their ratio, which must be at most 1.1 (exit code 1 otherwise). The figure shows it over the cases.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import nibabel
import numpy as np
import psutil

from benchmarks.common.tables import text_table
from configs.files import replacing, write_json

T = TypeVar("T")
_COLUMNS = {
    "stage": "{}",
    "cases": "{}",
    "seconds": "{:.0f}",
    "second_tenth_MiB": "{:.1f}",
    "last_tenth_MiB": "{:.1f}",
    "ratio": "{:.3f}",
}
_MOST_GROWTH = 1.1


class Memory:
    """A progress that notes the resident memory, in bytes, after each item of each stage."""

    def __init__(self) -> None:
        self.stages: dict[str, list[int]] = {}
        self.seconds: dict[str, float] = {}

    def track(self, items: Iterable[T], description: str, total: int) -> Iterator[T]:
        """Yield the items."""
        del total
        noted = self.stages.setdefault(description, [])
        start, process = time.monotonic(), psutil.Process()
        for item in items:
            yield item
            noted.append(int(process.memory_info().rss))
        self.seconds[description] = time.monotonic() - start

    def note(self, text: str) -> None:
        """Ignore the text."""
        del text


def main() -> int:
    """Work on the cases, print one table, write JSON and SVG. Returns 1 where memory grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--side", type=int, default=16, help="voxels of a case along each axis; default: %(default)s")
    parser.add_argument("-o", "--output", type=Path, default=Path("load.json"))
    arguments = parser.parse_args()
    memory = Memory()
    with tempfile.TemporaryDirectory() as name:
        work_on(Path(name), arguments.cases, arguments.side, memory)
    rows = [summarise(stage, noted, memory.seconds[stage]) for stage, noted in memory.stages.items()]
    print(text_table(rows, _COLUMNS))
    write_json(arguments.output, {"cases": arguments.cases, "side": arguments.side, "rows": rows, "bytes": memory.stages})
    draw(memory, arguments.output.with_suffix(".svg"))
    return int(any(float(row["ratio"]) > _MOST_GROWTH for row in rows))


def work_on(folder: Path, cases: int, side: int, memory: Memory) -> None:
    """Make the cases, plan and prepare them, and segment them with a small untrained network.

    Raises:
        RuntimeError: a case could not be segmented.
    """
    from inference import PredictionOptions, Predictor, predict_cases
    from inference.prediction.outputs import plan_outputs
    from planners.options import PlanningOptions
    from planners.run import plan_and_preprocess
    from tests.inference.models import write_model

    images = write_dataset(folder / "data", cases, side)
    options = PlanningOptions(networks=("baseline",), configurations=("3d_fullres",))
    plan_and_preprocess(folder / "data", folder / "work", options, jobs=1, progress=memory)
    chosen = PredictionOptions(mirror=False, scales=(1.0,), step=1.0)
    predictor = Predictor.load(write_model(folder / "model", ("0",)), "cpu", options=chosen)
    failures = predict_cases(predictor, images, plan_outputs(images, folder / "segmentations"), progress=memory)
    if failures:
        raise RuntimeError(f"{len(failures)} cases failed: {next(iter(failures.values()))}")


def write_dataset(folder: Path, cases: int, side: int) -> dict[str, tuple[Path, ...]]:
    """Noise with a brighter box. Returns case -> its image."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    description = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "box": 1}, "file_ending": ".nii.gz"}
    write_json(folder / "dataset.json", description)
    images: dict[str, tuple[Path, ...]] = {}
    for index in range(cases):
        labels = np.zeros((side,) * 3, np.uint8)
        labels[side // 4 : side // 2, side // 4 : side // 2, side // 4 : side // 2] = 1
        values = np.random.default_rng(index).integers(1, 100, labels.shape) + 100 * labels
        path = folder / "imagesTr" / f"case_{index:05d}_0000.nii.gz"
        nibabel.save(nibabel.Nifti1Image(values.astype(np.int16), np.eye(4)), path)
        nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), folder / "labelsTr" / f"case_{index:05d}.nii.gz")
        images[f"case_{index:05d}"] = (path,)
    return images


def summarise(stage: str, noted: list[int], seconds: float) -> dict[str, float | str]:
    """One row: mean memory over the second and over the last tenth of the cases."""
    tenth = max(1, len(noted) // 10)
    early, late = (float(np.mean(part)) / 2**20 for part in (noted[tenth : 2 * tenth] or noted, noted[-tenth:]))
    row: dict[str, float | str] = {"stage": stage, "cases": len(noted), "seconds": seconds}
    return row | {"second_tenth_MiB": early, "last_tenth_MiB": late, "ratio": late / early}


def draw(memory: Memory, path: Path) -> None:
    """Resident memory over the cases, a line for each stage."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    for stage, noted in memory.stages.items():
        axes.plot(np.arange(1, len(noted) + 1), np.array(noted) / 2**20, label=stage)
    axes.set_xlabel("cases done")
    axes.set_ylabel("resident memory (MiB)")
    axes.set_ylim(bottom=0)
    axes.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})


if __name__ == "__main__":
    sys.exit(main())
