"""Preprocess and predict one very large case within a limit of memory.

    python -m benchmarks.cost.big_volume                              # 900 x 700 x 700 voxels (Z, Y, X), int16, within 16 GiB
    python -m benchmarks.cost.big_volume --folder DIR --stages make prepare   # and later: --stages predict
    python -m benchmarks.cost.big_volume --shape 64 64 64 --limit 2

The volume is synthetic: air, a body that fills two fifths of it, an organ and some hundred small lesions, all with noise, stored as
scanners store (left to the left of the array, compressed). Nothing can be cropped, and the grid that is planned is a little finer, so
that everything is resampled and grows. `se_plan_and_preprocess` and `se_predict` run as commands, each in a process of its own; the most
memory that it and its children have had is looked up every tenth of a second, and they are ended where it exceeds the limit (exit code
1). The network is untrained and tiny, and its tiles do not overlap: this changes the time of prediction, not the volumes that it holds.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import psutil
import torch

from benchmarks.common.tables import text_table
from configs.files import read_json, write_json
from configs.network import NetworkConfig
from configs.plan import NetworkPlan, Plan
from se_unet.builder import build_network
from se_unet.weights import save_weights

_COLUMNS = {"stage": "{}", "seconds": "{:.0f}", "peak_GiB": "{:.2f}", "ended_with": "{}"}
_STAGES = ("make", "prepare", "predict")
_SPACING = 0.7  # mm
_PLANNED = "0.69"
_LOOK = 0.1  # seconds
_LABELS = {"background": 0, "body": 1, "organ": 2, "lesion": 3}


@dataclass(frozen=True)
class Watched:
    """How a command ended.

    Attributes:
        code: its exit code; None where it had to be ended.
        seconds: it took.
        peak: most bytes resident, of the process, with the most of each of its children.
    """

    code: int | None
    seconds: float
    peak: int


def main() -> int:
    """Run the stages, print one table, write one JSON. Returns 1 where a stage failed or took too much memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=[900, 700, 700], metavar=("Z", "Y", "X"))
    parser.add_argument("--limit", type=float, default=16.0, help="limit of memory in GiB; default: %(default)s")
    parser.add_argument("--stages", nargs="+", choices=_STAGES, default=_STAGES, help="stages to run; default: all")
    parser.add_argument("--folder", type=Path, help="working folder, which is kept; default: a temporary folder")
    parser.add_argument("-o", "--output", type=Path, default=Path("big_volume.json"))
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        rows = read_json(folder / "rows.json") if (folder / "rows.json").is_file() else {}
        for stage in (stage for stage in _STAGES if stage in arguments.stages):
            rows[stage] = run_stage(stage, folder, arguments.shape, arguments.limit)
            write_json(folder / "rows.json", rows)
            if rows[stage]["ended_with"] != 0:
                break
    print(text_table(list(rows.values()), _COLUMNS))
    voxels = int(np.prod(arguments.shape))
    write_json(
        arguments.output, {"shape": arguments.shape, "voxels": voxels, "limit_GiB": arguments.limit, "rows": list(rows.values())}
    )
    return int(any(row["ended_with"] != 0 for row in rows.values()))


def run_stage(stage: str, folder: Path, shape: Sequence[int], limit: float) -> dict[str, Any]:
    """One row of the table."""
    if stage == "make":
        start = time.monotonic()
        write_dataset(folder / "data", shape)
        return {"stage": stage, "seconds": time.monotonic() - start, "peak_GiB": None, "ended_with": 0}
    if stage == "prepare":
        words = ["planners.cli:main", folder / "data", "--work", folder / "work", "--network", "baseline", "--jobs", "1"]
        words += ["--configurations", "3d_fullres", "--spacing", *[_PLANNED] * 3]
    else:
        write_model(folder / "work/data/plan.json", folder / "model")
        words = [
            "inference.prediction.cli:main",
            "-i",
            folder / "data/imagesTr",
            "-o",
            folder / "segmentations",
            "-m",
            folder / "model",
        ]
        words += ["--device", "cpu", "--search", "never", "--no-mirror", "--step-size", "1"]
    watched = watch(command(*map(str, words)), round(limit * 2**30))
    ended = "more memory than the limit" if watched.code is None else watched.code
    return {"stage": stage, "seconds": watched.seconds, "peak_GiB": watched.peak / 2**30, "ended_with": ended}


def command(entry: str, *words: str) -> list[str]:
    """The command line of an entry point, `module:function`."""
    module, _, function = entry.partition(":")
    return [sys.executable, "-c", f"import sys; from {module} import {function}; sys.exit({function}())", *words]


def watch(words: Sequence[str], limit: int) -> Watched:
    """Run a command; end it, with its children, where they have had more than `limit` bytes resident."""
    start, peak = time.monotonic(), 0
    process = subprocess.Popen(words)
    while (code := process.poll()) is None:
        peak = max(peak, most_resident(process.pid))
        if peak > limit:
            for one in _with_children(process.pid):
                one.kill()
            process.wait()
            break
        time.sleep(_LOOK)
    return Watched(code, time.monotonic() - start, peak)


def most_resident(process: int) -> int:
    """Most bytes that a process has had so far, with the most that each of its children has had."""
    total = 0
    for one in _with_children(process):
        with suppress(OSError):  # it has ended meanwhile
            lines = Path(f"/proc/{one.pid}/status").read_text().splitlines()
            total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return total


def _with_children(process: int) -> list[psutil.Process]:
    try:
        first = psutil.Process(process)
        return [first, *first.children(recursive=True)]
    except psutil.Error:
        return []


def write_dataset(folder: Path, shape: Sequence[int]) -> None:
    """One case, made plane by plane."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    write_json(folder / "dataset.json", {"channel_names": {"0": "CT"}, "labels": _LABELS, "file_ending": ".nii.gz"})
    image, labels = np.empty(shape, np.int16), np.empty(shape, np.uint8)
    random = np.random.default_rng(0)
    y, x = np.meshgrid(*(np.linspace(-1, 1, size, dtype=np.float32) for size in shape[1:]), indexing="ij")
    for plane, z in enumerate(np.linspace(-1, 1, shape[0], dtype=np.float32)):
        labels[plane] = _plane(plane, float(z), y, x)
        means = np.array([-1000, 40, 120, 20], np.float32)[labels[plane]]
        image[plane] = means + 12 * random.standard_normal(means.shape, np.float32)
    affine = np.diag([-_SPACING, -_SPACING, _SPACING, 1])
    nibabel.save(nibabel.Nifti1Image(image.T, affine), folder / "imagesTr/large_0000.nii.gz")
    nibabel.save(nibabel.Nifti1Image(labels.T, affine), folder / "labelsTr/large.nii.gz")


def _plane(plane: int, z: float, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Label values of one plane: a body, an organ in it, and small cubes all over both."""
    rows, columns = np.indices(y.shape)
    body = z**2 + y**2 + x**2 < 0.81
    labels = body.astype(np.uint8)
    labels[(z - 0.1) ** 2 + (y + 0.2) ** 2 + (x - 0.2) ** 2 < 0.16] = 2
    if plane % 100 < 8:
        labels[body & (rows % 100 < 8) & (columns % 100 < 8)] = 3
    return labels


def write_model(plan_file: Path, folder: Path) -> None:
    """A model of the dataset's plan, its network replaced by a tiny one that is not trained."""
    plan = Plan.read(plan_file)
    network = NetworkConfig(
        family="plain",
        input_channels=1,
        output_channels=len(_LABELS),
        features=(4, 8),
        strides=((1, 1, 1), (2, 2, 2)),
        kernels=((3, 3, 3),) * 2,
        encoder_blocks=(1, 1),
        decoder_blocks=(1,),
    )
    configuration = plan.configuration("3d_fullres")
    networks = {"baseline": NetworkPlan(network=network, patch_size=(64, 160, 160), batch_size=2)}
    kept = {"3d_fullres": configuration.model_copy(update={"networks": networks})}
    plan.model_copy(update={"configurations": kept}).write(folder / "plan.json")
    (folder / "fold_0").mkdir(exist_ok=True)
    torch.manual_seed(0)
    save_weights(build_network(network), folder / "fold_0/weights_final.safetensors")


if __name__ == "__main__":
    sys.exit(main())
