"""Time the prediction commands of nnU-Net and of this project with the same weights and settings, in alternating pairs.

    python -m benchmarks.nnunet.prediction_speed --peer PEER/bin/python --data ../shared/data            # both sets, five pairs each
    python -m benchmarks.nnunet.prediction_speed ... --sets hippocampus --pairs 1 --cases 4 --no-mirror  # to see that it works

`hippocampus`: the images of imagesTs. `ct`: one volume of 200 x 300 x 300 voxels of 1.5 mm, made by enlarging a real CT, segmented by
the network that nnU-Net plans for it (42 classes at 3 mm). Weights are nnU-Net's initial ones; see `benchmarks.nnunet.nnunet_peer`. Both
commands have the same number of threads. Beside the wall time stands the processor's, which other work on the machine changes less, and the
share of our wall time that the network itself takes.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from scipy import ndimage

from benchmarks.common.options import add_peer
from benchmarks.common.tables import text_table
from benchmarks.nnunet.nnunet_peer import Peer, our_model, threads_environment
from configs.files import write_json
from inference import PredictionOptions, Predictor
from inference.prediction.estimate import estimate_prediction
from inference.prediction.outputs import Extras
from preprocessing.dataset.raw import find_cases

SETS = {"hippocampus": "Dataset004_Hippocampus", "ct": "Dataset291_TotalSegExampleCT"}
SHAPE, SPACING = (200, 300, 300), 1.5
COLUMNS = {"set": "{}", "mirror": "{}", "pairs": "{}", "peer_s": "{:.1f}", "ours_s": "{:.1f}", "times_faster": "{:.2f}"}
COLUMNS |= {
    "peer_cpu_s": "{:.1f}",
    "ours_cpu_s": "{:.1f}",
    "times_less_cpu": "{:.2f}",
    "network_share": "{:.2f}",
    "labels_agree": "{:.5f}",
}


def main() -> int:
    """Measure, print a table and write a JSON file. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_peer(parser, "folder that holds the datasets")
    parser.add_argument("--work", type=Path, help="working folder, which is kept; default: a temporary folder")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--cases", type=int, help="largest number of cases; default: all")
    parser.add_argument("--mirror", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("-o", "--output", type=Path, default=Path("prediction_speed.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        rows = [compare(name, work, arguments) for name in arguments.sets]
    print(text_table(rows, COLUMNS))
    write_json(arguments.output, rows)
    return 0


def compare(name: str, work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return one row of the table."""
    peer = Peer(arguments.peer, work / "peer", arguments.threads)
    theirs = peer.make_model(arguments.data / SETS[name])
    ours = our_model(theirs, work / f"ours_{name}")
    images = make_ct(arguments.data, work / "ct") if name == "ct" else choose(arguments.data, work / "images", arguments.cases)
    their_output, our_output = work / f"their_{name}", work / f"our_{name}"
    call = "import sys; from inference.prediction.cli import main; sys.exit(main())"
    words = ["-i", images, "-o", our_output, "-m", ours, "--device", "cpu", "--average", "logits", "--search", "never"]
    words += ["--mirror" if arguments.mirror else "--no-mirror"]
    commands = {
        "peer": (peer.predict_command(theirs, images, their_output, arguments.mirror), peer.environment),
        "ours": ([sys.executable, "-c", call, *map(str, words)], os.environ | threads_environment(arguments.threads)),
    }
    wall: dict[str, list[float]] = {who: [] for who in commands}
    cpu: dict[str, list[float]] = {who: [] for who in commands}
    for pair in range(arguments.pairs):
        order = list(commands) if pair % 2 == 0 else list(commands)[::-1]  # neither is always the one that runs first
        for who in order:
            seconds, processor = timed(*commands[who])
            wall[who].append(seconds)
            cpu[who].append(processor)
            print(json.dumps({"set": name, "pair": pair, who: seconds, "cpu": processor}), file=sys.stderr, flush=True)
    row = {"set": name, "mirror": arguments.mirror, "pairs": arguments.pairs}
    row |= {f"{who}_s": statistics.median(wall[who]) for who in wall} | {
        f"{who}_cpu_s": statistics.median(cpu[who]) for who in cpu
    }
    row["times_faster"] = statistics.median(one / other for one, other in zip(wall["peer"], wall["ours"], strict=True))
    row["times_less_cpu"] = statistics.median(one / other for one, other in zip(cpu["peer"], cpu["ours"], strict=True))
    row["network_share"] = network_seconds(ours, images, arguments.mirror) / row["ours_s"]
    row["labels_agree"] = agreement(their_output, our_output)
    return row


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Measure the wall time and the processor time of a command with its child processes, in seconds.

    Raises:
        RuntimeError: it failed.
    """
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def network_seconds(model: Path, images: Path, mirror: bool) -> float:
    """Measure the seconds of one tile, and return them multiplied by the number of tiles."""
    predictor = Predictor.load(model, "cpu", options=PredictionOptions(mirror=mirror, scales=(1.0,)))
    return estimate_prediction(predictor, find_cases(images, predictor.description), Extras()).seconds


def choose(data: Path, folder: Path, number: int | None) -> Path:
    """Make a folder of links to the first test images."""
    folder.mkdir(parents=True, exist_ok=True)
    for image in sorted((data / SETS["hippocampus"] / "imagesTs").iterdir())[:number]:
        if not (folder / image.name).exists():
            (folder / image.name).symlink_to(image.resolve())
    return folder


def make_ct(data: Path, folder: Path) -> Path:
    """Return the real CT, enlarged linearly."""
    folder.mkdir(parents=True, exist_ok=True)
    source = next((data / SETS["ct"] / "imagesTr").iterdir())
    image = np.asanyarray(nibabel.load(source).dataobj).astype(np.float32).T
    zoom = [size / present for size, present in zip(SHAPE, image.shape, strict=True)]
    enlarged = ndimage.zoom(image, zoom, order=1).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(enlarged.T, np.diag([SPACING] * 3 + [1.0])), folder / "ct_0000.nii.gz")
    return folder


def agreement(theirs: Path, ours: Path) -> float:
    """Return the share of voxels with the same label."""
    same = total = 0
    for path in sorted(theirs.glob("*.nii.gz")):
        one, other = (np.asanyarray(nibabel.load(folder / path.name).dataobj) for folder in (theirs, ours))
        same, total = same + int((one == other).sum()), total + one.size
    return same / total


if __name__ == "__main__":
    sys.exit(main())
