"""Compare the probabilities and labels that the commands of nnU-Net and of this project predict with the same weights.

    python -m benchmarks.nnunet.prediction_parity --peer PEER/bin/python --data ../shared/data

nnU-Net plans each dataset and saves its initial weights as a model; `benchmarks.nnunet.nnunet_peer` writes the same model as a folder of
ours (orientation `as-stored`). Both commands segment training images, with and without mirroring. nnU-Net adds up in half floats
with weights in half floats, of which the smallest are 0 and are raised; its own figures carry that. `--exact` lets it use float32 for
both instead, by replacing two functions in its process.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from benchmarks.common.tables import text_table
from benchmarks.nnunet.nnunet_peer import Peer, our_model, run_quietly, threads_environment
from configs.files import write_json

DATASETS = {"Dataset004_Hippocampus": 20, "Dataset291_TotalSegExampleCT": 1}
COLUMNS = {"dataset": "{}", "mirror": "{}", "peer_sums": "{}", "cases": "{}", "max_difference": "{:.2e}"}
COLUMNS |= {"share_above_1e-3": "{:.1e}", "labels_agree": "{:.6f}", "worst_case": "{:.6f}", "classes_seen": "{}"}

# Run by nnU-Net's Python in place of its command: the same, with sums over tiles in float32.
EXACT = """
import sys, torch
import nnunetv2.inference.predict_from_raw_data as module
zeros = torch.zeros
class Torch:
    def __getattr__(self, name):
        return getattr(torch, name)
    @staticmethod
    def zeros(*args, **kwargs):
        if kwargs.get("dtype") == torch.half:
            kwargs["dtype"] = torch.float32
        return zeros(*args, **kwargs)
gaussian = module.compute_gaussian
def exact_gaussian(*args, **kwargs):
    return gaussian(*args, **{**kwargs, "dtype": torch.float32})
exact_gaussian.cache_clear = gaussian.cache_clear
if __name__ == "__main__":
    module.torch, module.compute_gaussian = Torch(), exact_gaussian
    sys.argv = ["nnUNetv2_predict_from_modelfolder", *sys.argv[1:]]
    module.predict_entry_point_modelfolder()
"""


def main() -> int:
    """Compare, print a table and write a JSON file. Returns the exit code: 0 if everything agrees."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="path to the Python of an environment with nnU-Net")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the datasets")
    parser.add_argument("--work", type=Path, help="working folder, which is kept; default: a temporary folder")
    parser.add_argument("--datasets", nargs="+", default=list(DATASETS))
    parser.add_argument(
        "--cases", type=int, help="largest number of cases of each dataset; default: 20 of the hippocampus, the one CT"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--exact", action="store_true", help="let nnU-Net accumulate in float32")
    parser.add_argument("-o", "--output", type=Path, default=Path("prediction_parity.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        rows = [row for dataset in arguments.datasets for row in compare_dataset(dataset, work, arguments)]
    print(text_table(rows, COLUMNS))
    write_json(arguments.output, rows)
    return 0 if all(row["labels_agree"] >= 0.999 and row["max_difference"] <= 1e-3 for row in rows) else 1


def compare_dataset(dataset: str, work: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Return two rows of the table: without and with mirroring."""
    peer = Peer(arguments.peer, work / "peer", arguments.threads)
    theirs = peer.make_model(arguments.data / dataset)
    ours = our_model(theirs, work / f"ours_{dataset}")
    images = choose_images(arguments.data / dataset, work / f"images_{dataset}", arguments.cases or DATASETS.get(dataset, 20))
    return [compare(dataset, peer, theirs, ours, images, mirror, arguments) for mirror in (False, True)]


def choose_images(dataset: Path, folder: Path, number: int) -> Path:
    """Make a folder of links to the first training images."""
    folder.mkdir(parents=True, exist_ok=True)
    for image in sorted((dataset / "imagesTr").iterdir())[:number]:
        if not (folder / image.name).exists():
            (folder / image.name).symlink_to(image.resolve())
    return folder


def compare(
    dataset: str, peer: Peer, theirs: Path, ours: Path, images: Path, mirror: bool, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Run both commands and measure the differences."""
    work = ours.parent
    outputs = [work / f"{who}_{dataset}_{'mirrored' if mirror else 'plain'}" for who in ("their", "our")]
    command = peer.predict_command(theirs, images, outputs[0], mirror, probabilities=True)
    if arguments.exact:
        script = work / "exact.py"
        script.write_text(EXACT, encoding="utf-8")
        command = [str(arguments.peer), str(script), *command[1:]]
    run_quietly(command, peer.environment)
    words = ["-i", images, "-o", outputs[1], "-m", ours, "--device", "cpu", "--save-probabilities", "--average", "logits"]
    words += ["--search", "never", "--mirror" if mirror else "--no-mirror", "--quiet"]
    call = "import sys; from inference.prediction.cli import main; sys.exit(main())"
    run_quietly([sys.executable, "-c", call, *map(str, words)], os.environ | threads_environment(arguments.threads))
    row = measure(*outputs)
    sums = "float32" if arguments.exact else "half"
    row = {"dataset": dataset, "mirror": mirror, "peer_sums": sums, **row}
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def measure(theirs: Path, ours: Path) -> dict[str, Any]:
    """Return the differences over all cases."""
    largest, above, values, equal, voxels, worst, seen = 0.0, 0, 0, 0, 0, 1.0, set[int]()
    cases = sorted(path.name.removesuffix(".nii.gz") for path in theirs.glob("*.nii.gz"))
    for case in cases:
        their = np.load(theirs / f"{case}.npz")["probabilities"]
        our = np.load(ours / f"{case}_probabilities.npz")["probabilities"]
        difference = np.abs(their - our)
        largest, above, values = max(largest, float(difference.max())), above + int((difference > 1e-3).sum()), values + our.size
        labels = [np.asanyarray(nibabel.load(folder / f"{case}.nii.gz").dataobj) for folder in (theirs, ours)]
        same = int((labels[0] == labels[1]).sum())
        equal, voxels, worst = equal + same, voxels + labels[0].size, min(worst, same / labels[0].size)
        seen |= {int(value) for value in np.unique(labels[1])}
    return {
        "cases": len(cases),
        "max_difference": largest,
        "share_above_1e-3": above / values,
        "labels_agree": equal / voxels,
        "worst_case": worst,
        "classes_seen": len(seen),
    }


if __name__ == "__main__":
    sys.exit(main())
