"""Time the prediction commands of nnU-Net and of this project with the same imported model, in alternating pairs.

    python -m benchmarks.nnunet.prediction_speed --peer PEER/bin/python --data ../shared/data --csv FILE        # all sets, five pairs each
    python -m benchmarks.nnunet.prediction_speed ... --sets hippocampus --pairs 1 --cases 4                     # to see that it works
    python -m benchmarks.nnunet.prediction_speed ... --sets "CT, 100 classes" --pairs 1 --shape 300 400 400     # for peak memory

`hippocampus`: the images of imagesTs. The CTs: one volume of 200 x 300 x 300 voxels of 1.5 mm, made by enlarging a real CT, segmented by
the network that nnU-Net plans for it at 3 mm, with as many outputs as there are classes. Weights are nnU-Net's initial ones
(`benchmarks.nnunet.nnunet_peer`), features those of `--features`. Both commands have the same number of threads and average no
reflections unless asked. Beside the wall time stands the processor's, which other work on the machine changes less, and the largest
memory of one process.
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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from scipy import ndimage

from benchmarks.common.options import add_peer
from benchmarks.common.tables import show_table
from benchmarks.common.trainings import link
from benchmarks.nnunet.nnunet_peer import Peer, our_model, threads_environment

CT = "Dataset291_TotalSegExampleCT"
SETS: dict[str, tuple[str, int | None]] = {  # dataset, and classes where they are not its own
    "hippocampus": ("Dataset004_Hippocampus", None),
    "CT, 40 classes": (CT, 40),
    "CT, 100 classes": (CT, 100),
}
SHAPE, SPACING = (200, 300, 300), 1.5
COLUMNS = {"set": "{}", "mirror": "{}", "pairs": "{}", "peer_s": "{:.1f}", "ours_s": "{:.1f}", "times_faster": "{:.2f}"}
COLUMNS |= {"peer_cpu_s": "{:.1f}", "ours_cpu_s": "{:.1f}", "times_less_cpu": "{:.2f}"}
COLUMNS |= {"peer_GiB": "{:.1f}", "ours_GiB": "{:.1f}", "labels_agree": "{:.5f}"}


def main() -> int:
    """Measure, print a table and write a JSON file. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_peer(parser, "folder that holds the datasets")
    parser.add_argument("--work", type=Path, help="working folder, which is kept; default: a temporary folder")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--cases", type=int, help="largest number of cases; default: all")
    parser.add_argument("--features", type=int, default=8, help="features of the first stage; default: %(default)s")
    parser.add_argument("--shape", type=int, nargs=3, default=SHAPE, metavar=("Z", "Y", "X"), help="voxels of the CT")
    parser.add_argument("--mirror", action="store_true", help="average over reflections")
    parser.add_argument("--csv", type=Path, help="CSV file of the table")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        rows = [compare(name, work, arguments) for name in arguments.sets]
    show_table(rows, COLUMNS, arguments.csv)
    return 0


def compare(name: str, work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return one row of the table."""
    place, (dataset, classes) = work / name.replace(" ", "_").replace(",", ""), SETS[name]
    place.mkdir(parents=True, exist_ok=True)
    peer = Peer(arguments.peer, place / "peer", arguments.threads)
    theirs = peer.make_model(arguments.data / dataset, arguments.features, classes)
    ours = our_model(theirs, place / "imported")
    images = place / "images"
    if dataset == CT:
        make_ct(arguments.data / CT, images, arguments.shape)
    else:
        choose(arguments.data / dataset, images, arguments.cases)
    their_output, our_output = place / "theirs", place / "ours"
    call = "import sys; from inference.prediction.cli import main; sys.exit(main())"
    words = ["-i", images, "-o", our_output, "-m", ours, "--device", "cpu", "--mirror" if arguments.mirror else "--no-mirror"]
    commands = {
        "peer": (peer.predict_command(theirs, images, their_output, arguments.mirror), peer.environment),
        "ours": ([sys.executable, "-c", call, *map(str, words)], os.environ | threads_environment(arguments.threads)),
    }
    wall: dict[str, list[float]] = {who: [] for who in commands}
    cpu: dict[str, list[float]] = {who: [] for who in commands}
    peak: dict[str, float] = {}
    for pair in range(arguments.pairs):
        order = list(commands) if pair % 2 == 0 else list(commands)[::-1]  # neither is always the one that runs first
        for who in order:
            seconds, processor, memory = timed(*commands[who])
            wall[who].append(seconds)
            cpu[who].append(processor)
            peak[who] = max(peak.get(who, 0.0), memory)
            print(json.dumps({"set": name, "pair": pair, who: seconds, "cpu": processor}), file=sys.stderr, flush=True)
    row = {"set": name, "mirror": arguments.mirror, "pairs": arguments.pairs}
    row |= {f"{who}_s": statistics.median(wall[who]) for who in wall} | {
        f"{who}_cpu_s": statistics.median(cpu[who]) for who in cpu
    }
    row["times_faster"] = statistics.median(one / other for one, other in zip(wall["peer"], wall["ours"], strict=True))
    row["times_less_cpu"] = statistics.median(one / other for one, other in zip(cpu["peer"], cpu["ours"], strict=True))
    row |= {f"{who}_GiB": memory for who, memory in peak.items()}
    row["labels_agree"] = agreement(their_output, our_output)
    return row


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, float, float]:
    """Measure the wall time and the processor time of a command with its child processes, in seconds, and its peak memory in GiB.

    The memory is that of the largest of its processes, of which both programs have one.

    Raises:
        RuntimeError: it failed.
    """
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    words = [sys.executable, "-c", _MEASURED, *command]
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}:\n{done.stdout[-3000:]}")
    kibibytes = int(done.stdout.strip().splitlines()[-1])
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, kibibytes / 2**20


# In a process of its own, since the peak memory of child processes is that of all so far.
_MEASURED = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def choose(dataset: Path, folder: Path, number: int | None) -> None:
    """Make a folder of links to the first test images."""
    folder.mkdir(parents=True, exist_ok=True)
    for image in sorted((dataset / "imagesTs").iterdir())[:number]:
        link(folder / image.name, image)


def make_ct(dataset: Path, folder: Path, shape: Sequence[int]) -> None:
    """Write the real CT, enlarged linearly to this shape (Z, Y, X)."""
    folder.mkdir(parents=True, exist_ok=True)
    source = next((dataset / "imagesTr").iterdir())
    image = np.asanyarray(nibabel.load(source).dataobj).astype(np.float32).T
    zoom = [size / present for size, present in zip(shape, image.shape, strict=True)]
    enlarged = ndimage.zoom(image, zoom, order=1).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(enlarged.T, np.diag([SPACING] * 3 + [1.0])), folder / "ct_0000.nii.gz")


def agreement(theirs: Path, ours: Path) -> float:
    """Return the share of voxels with the same label."""
    same = total = 0
    for path in sorted(theirs.glob("*.nii.gz")):
        one, other = (np.asanyarray(nibabel.load(folder / path.name).dataobj) for folder in (theirs, ours))
        same, total = same + int((one == other).sum()), total + one.size
    return same / total


if __name__ == "__main__":
    sys.exit(main())
