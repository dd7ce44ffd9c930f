"""Measure the peak resident memory of se_predict by the number of classes.

    python -m benchmarks.cost.prediction_memory                    # 10 and 100 classes on 300 x 400 x 400 voxels
    python -m benchmarks.cost.prediction_memory --features 32 64   # with as many features as a real network has

An untrained ordinary U-Net segments one volume of noise, resampled on the way, in a process of its own. What the network itself
takes for one tile is measured apart, in another process, and subtracted for the growth. Beside it stands what it takes to hold the
scores of all classes at once in float32, as one copy. Tiles do not overlap by default: that changes the time, not the memory.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch

from benchmarks.common.tables import text_table
from configs.dataset import DatasetDescription
from configs.files import write_json
from configs.network import NetworkConfig
from configs.plan import ChannelNormalisation, ConfigurationPlan, NetworkPlan, Plan
from se_unet.builder import build_network
from se_unet.weights import save_weights

COLUMNS = {
    "classes": "{}",
    "peak_GiB": "{:.2f}",
    "network_GiB": "{:.2f}",
    "without_GiB": "{:.2f}",
    "dense_GiB": "{:.1f}",
    "seconds": "{:.0f}",
}


def main() -> int:
    """Measure, print one table, write one JSON. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--shape", type=int, nargs=3, default=[300, 400, 400], metavar=("Z", "Y", "X"))
    parser.add_argument(
        "--features", type=int, nargs="+", default=[16, 32], help="features of each stage; default: a small network"
    )
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument(
        "--spacing", type=float, default=1.1, help="spacing of the plan in mm; the image has 1 mm; default: %(default)s"
    )
    parser.add_argument("--options", default="--no-mirror --step-size 1", help="options of se_predict; default: %(default)s")
    parser.add_argument("-o", "--output", type=Path, default=Path("prediction_memory.json"))
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = write_image(folder / "volume_0000.nii.gz", arguments.shape)
        for classes in arguments.classes:
            model = write_model(folder / f"model_{classes}", classes, arguments)
            rows.append(measure(classes, image, model, folder / f"out_{classes}", arguments))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    growth = rows[-1]["without_GiB"] / rows[0]["without_GiB"] - 1
    print(text_table(rows, COLUMNS))
    print(f"growth from {rows[0]['classes']} to {rows[-1]['classes']} classes, the network left out: {100 * growth:.1f} %")
    write_json(arguments.output, {"shape": arguments.shape, "features": arguments.features, "rows": rows, "growth": growth})
    return 0


def measure(classes: int, image: Path, model: Path, output: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """One row of the table."""
    command = [sys.executable, "-c", "import sys; from inference.prediction.cli import main; sys.exit(main())"]
    command += ["-i", str(image), "-o", str(output), "-m", str(model), "--device", "cpu", "--search", "never"]
    start = time.monotonic()
    peak = peak_of([*command, *arguments.options.split()])
    seconds = time.monotonic() - start
    side, code = (
        arguments.patch,
        "import sys, json; from benchmarks.cost.prediction_memory import run_tile; run_tile(*sys.argv[1:])",
    )
    alone = peak_of([sys.executable, "-c", code, str(model), str(side)])
    empty = peak_of([sys.executable, "-c", code, str(model), "0"])
    dense = classes * np.prod(arguments.shape) * 4
    sizes = {"peak": peak, "network": alone - empty, "without": peak - (alone - empty), "dense": dense}
    return {"classes": classes, **{f"{key}_GiB": float(value) / 2**30 for key, value in sizes.items()}, "seconds": seconds}


def peak_of(command: list[str]) -> int:
    """Peak of the resident memory of a process in bytes.

    Raises:
        CalledProcessError: it failed.
    """
    # A child of its own, as the figure of children is the largest of all that there have been.
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout.split()[-1]) * (1 if sys.platform == "darwin" else 1024)


def run_tile(model: str, side: str) -> None:
    """What the second process does: load the network, and let it see one tile (none where the side is 0)."""
    from inference.engine.heads import split_network
    from inference.model import load_model

    network = next(iter(load_model(Path(model)).networks.values()))
    if int(side):
        with torch.no_grad():
            split_network(network).body(torch.zeros(1, 1, *[int(side)] * 3))


def write_image(path: Path, shape: list[int]) -> Path:
    """Noise of 1 mm voxels."""
    values = np.random.default_rng(0).integers(-200, 200, shape, dtype=np.int16)
    nibabel.save(nibabel.Nifti1Image(values.T, np.eye(4)), path)
    return path


def write_model(folder: Path, classes: int, arguments: argparse.Namespace) -> Path:
    """A model folder with untrained weights."""
    stages = len(arguments.features)
    network = NetworkConfig(
        family="plain",
        input_channels=1,
        output_channels=classes,
        features=tuple(arguments.features),
        strides=((1, 1, 1), *[(2, 2, 2)] * (stages - 1)),
        kernels=((3, 3, 3),) * stages,
        encoder_blocks=(2,) * stages,
        decoder_blocks=(2,) * (stages - 1),
    )
    patch = (arguments.patch,) * 3
    z, y, x = arguments.shape
    configuration = ConfigurationPlan(
        spacing=(arguments.spacing,) * 3,
        median_shape=(z, y, x),
        normalisation=(ChannelNormalisation(channel="MR", scheme="zscore"),),
        networks={"baseline": NetworkPlan(network=network, patch_size=patch, batch_size=2)},
    )
    labels: dict[str, int | tuple[int, ...]] = {"background": 0}
    labels.update((f"organ_{value}", value) for value in range(1, classes))
    description = DatasetDescription(name="many", channels=("MR",), labels=labels)
    folder.mkdir()
    Plan(dataset=description, configurations={"3d_fullres": configuration}).write(folder / "plan.json")
    torch.manual_seed(0)
    (folder / "fold_0").mkdir()
    save_weights(build_network(network), folder / "fold_0" / "weights_final.safetensors")
    return folder


if __name__ == "__main__":
    sys.exit(main())
