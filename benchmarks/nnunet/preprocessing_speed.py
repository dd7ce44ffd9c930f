"""Time se_plan_and_preprocess and nnUNetv2_plan_and_preprocess, each with the same number of processes.

The two take turns, pair after pair, each on the same files with a fresh folder for what it writes; the ratio is the median over pairs.
Datasets: any folder in nnU-Net's raw layout, and a generated set of CT-sized volumes with thick slices, all of which are resampled.

    python -m benchmarks.nnunet.preprocessing_speed --peer PEER/bin --dataset DATA/Dataset004_Hippocampus --pairs 5 --output speed.json

PEER is an environment of its own with nnU-Net: pip install torch==2.13.0 nnunetv2==2.8.1
"""

import argparse
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.common.tables import text_table
from configs.files import write_json

CT_NAME = "Dataset900_GeneratedCT"
CT_SHAPE = (300, 300, 200)  # (x, y, z)
CT_SPACINGS = ((0.7, 2.0), (0.75, 2.5), (0.8, 2.5), (0.85, 2.0), (0.9, 3.0), (0.95, 1.5))  # mm in plane, of slices
ORGANS = {"liver": (0.55, 0.30, 0.5), "spleen": (0.5, 0.7, 0.5), "kidney": (0.65, 0.45, 0.35)}  # centre as a part of (x, y, z)
OURS = (sys.executable, "-c", "import sys; from planners.cli import main; sys.exit(main())")
_NUMBERED = re.compile(r"^Dataset(\d{3})_.+$")


def generate_ct(folder: Path) -> Path:
    """Write a dataset of six CT-sized volumes in nnU-Net's raw layout, as int16: a body in air with three organs."""
    write_json(
        folder / "dataset.json",
        {
            "channel_names": {"0": "CT"},
            "labels": {"background": 0} | {name: index for index, name in enumerate(ORGANS, start=1)},
            "numTraining": len(CT_SPACINGS),
            "file_ending": ".nii.gz",
        },
    )
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(exist_ok=True)
    for index, (in_plane, across) in enumerate(CT_SPACINGS):
        image, labels = _volume(index)
        affine = np.diag([in_plane, in_plane, across, 1.0])
        nib.save(nib.Nifti1Image(image, affine), folder / f"imagesTr/ct_{index}_0000.nii.gz")
        nib.save(nib.Nifti1Image(labels, affine), folder / f"labelsTr/ct_{index}.nii.gz")
    return folder


def _volume(seed: int) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    random = np.random.default_rng(seed)
    grid = np.meshgrid(*(np.linspace(0, 1, size, dtype=np.float32) for size in CT_SHAPE), indexing="ij", sparse=True)
    coarse = random.normal(0, 40, tuple(size // 10 for size in CT_SHAPE)).astype(np.float32)
    texture = ndimage.zoom(coarse, 10, order=1)
    image = np.full(CT_SHAPE, -1000, np.float32)
    body = _ellipsoid(grid, (0.5, 0.5, 0.5), 0.45)
    image[body] = texture[body]
    labels = np.zeros(CT_SHAPE, np.uint8)
    for value, centre in enumerate(ORGANS.values(), start=1):
        organ = _ellipsoid(grid, centre, float(random.uniform(0.08, 0.14)))
        image[organ] += 60 * value
        labels[organ] = value
    image += random.normal(0, 15, CT_SHAPE).astype(np.float32)
    return image.round().astype(np.int16), labels


def _ellipsoid(grid: Sequence[NDArray], centre: Sequence[float], radius: float) -> NDArray[np.bool_]:
    x, y, z = ((axis - middle) ** 2 for axis, middle in zip(grid, centre, strict=True))
    inside: NDArray[np.bool_] = x + y + z < radius**2
    return inside


class Seconds(NamedTuple):
    """What a command took: on the clock, and of all processors with its child processes, which other work on the machine hardly changes."""

    wall: float
    processor: float


def seconds_of_ours(dataset: Path, jobs: int, folder: Path) -> Seconds:
    """Return the command line of se_plan_and_preprocess."""
    return _seconds(
        [*OURS, str(dataset), "--work", str(folder), "--jobs", str(jobs), "--configurations", "3d_fullres", "--quiet"], {}
    )


def seconds_of_peer(peer: Path, dataset: Path, jobs: int, folder: Path) -> Seconds:
    """Return the command line of nnUNetv2_plan_and_preprocess with verification, which is optional there."""
    found = _NUMBERED.match(dataset.name)
    if found is None:
        raise ValueError(f"nnU-Net needs a folder named DatasetNNN_Name, not {dataset.name}")
    (folder / "raw").mkdir(parents=True)
    (folder / "raw" / dataset.name).symlink_to(dataset.resolve())
    environment = {f"nnUNet_{name}": str(folder / name) for name in ("raw", "preprocessed", "results")}
    options = ["--verify_dataset_integrity", "-npfp", str(jobs), "-np", str(jobs), "-c", "3d_fullres"]
    return _seconds([str(peer / "nnUNetv2_plan_and_preprocess"), "-d", str(int(found[1])), *options], environment)


def _seconds(command: Sequence[str], environment: Mapping[str, str]) -> Seconds:
    begin, used = time.perf_counter(), _processor_seconds()
    finished = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    seconds = Seconds(time.perf_counter() - begin, _processor_seconds() - used)
    if finished.returncode:
        raise RuntimeError(f"{command[0]} ended with {finished.returncode}:\n{finished.stderr[-4000:]}")
    return seconds


def _processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def compare(dataset: Path, peer: Path, pairs: int, jobs: int, work: Path) -> dict[str, Any]:
    """Run the pairs of commands on one dataset."""
    ours, theirs = [], []
    for pair in range(pairs):
        folder = work / f"{dataset.name}_{pair}"
        ours.append(seconds_of_ours(dataset, jobs, folder / "ours"))
        theirs.append(seconds_of_peer(peer, dataset, jobs, folder / "theirs"))
        shutil.rmtree(folder)
    row: dict[str, Any] = {"dataset": dataset.name}
    for kind in Seconds._fields:
        own, other = ([getattr(seconds, kind) for seconds in side] for side in (ours, theirs))
        ratios = [slow / fast for fast, slow in zip(own, other, strict=True)]
        row |= {
            f"ours_{kind}_s": statistics.median(own),
            f"theirs_{kind}_s": statistics.median(other),
            f"{kind}_ratio": statistics.median(ratios),
            f"{kind}_lowest": min(ratios),
            f"{kind}_highest": max(ratios),
            f"all_{kind}_s": {"ours": own, "theirs": other},
        }
    return row


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table and write a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="folder that contains nnUNetv2_plan_and_preprocess")
    parser.add_argument("--dataset", type=Path, nargs="*", default=[], help="folders of datasets in nnU-Net's raw layout")
    parser.add_argument("--no-generated", action="store_true", help="leave out the generated CT-sized volumes")
    parser.add_argument("--pairs", type=int, default=5, help="number of pairs; default: %(default)s")
    parser.add_argument("--jobs", type=int, default=2, help="number of processes of each command; default: %(default)s")
    parser.add_argument("--output", type=Path, default=Path("preprocessing_speed.json"))
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="se-unet-speed-") as name:
        work = Path(name)
        datasets = list(given.dataset)
        if not given.no_generated:
            datasets.append(generate_ct(work / CT_NAME))
        rows = [compare(dataset, given.peer, given.pairs, given.jobs, work) for dataset in datasets]
    print(text_table(rows, COLUMNS))
    write_json(given.output, {"processors": os.cpu_count(), "jobs": given.jobs, "pairs": given.pairs, "rows": rows})


_MEASURES = ("ours_{}_s", "theirs_{}_s", "{}_ratio", "{}_lowest", "{}_highest")
COLUMNS = {"dataset": "{}"} | {measure.format(kind): "{:.2f}" for kind in Seconds._fields for measure in _MEASURES}

if __name__ == "__main__":
    main()
