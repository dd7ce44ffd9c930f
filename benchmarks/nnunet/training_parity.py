"""Compare the same training in nnU-Net and here: mean foreground Dice of whole validation volumes, over several seeds.

    python -m benchmarks.nnunet.training_parity --peer PEER/bin/python --data ../shared/data/Dataset004_Hippocampus --work se_work \
        --peer-work peer_work --features 8 --epochs 20 --iterations 50

Fold 0, the same patch, batch, features and number of steps, every other setting each one's default. WORK holds the dataset planned and
preprocessed by `se_plan_and_preprocess`; nnU-Net prepares it in --peer-work. Seeds take turns. A second run
continues where the first one stopped: finished trainings are not repeated.
"""

import argparse
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.common.options import add_peer
from benchmarks.common.tables import text_table
from benchmarks.nnunet.nnunet_peer import Peer, threads_environment
from benchmarks.nnunet.peer_training import dice_of, prepare
from benchmarks.nnunet.peer_training import train as train_peer
from benchmarks.nnunet.training_speed import PEER, check_plans
from configs.files import read_json, write_json
from configs.folders import find_dataset

COLUMNS = {
    "network": "{}",
    "seeds": "{}",
    "mean_dice": "{:.4f}",
    "lowest": "{:.4f}",
    "highest": "{:.4f}",
    "difference": "{:+.4f}",
}


def main() -> int:
    """Run the missing trainings, print a table and write a JSON file. Returns the exit code: 0 if the baseline is as good."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_peer(parser, "the raw dataset")
    parser.add_argument("--work", type=Path, required=True, help="working folder of se_plan_and_preprocess")
    parser.add_argument("--peer-work", type=Path, required=True, help="folder of nnU-Net's files")
    parser.add_argument("--networks", nargs="+", default=["baseline"])
    parser.add_argument("--features", type=int, default=0, help="features of the first stage; default: as planned")
    parser.add_argument("--batch", type=int, default=0, help="number of patches in a batch; default: as planned")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--iterations", type=int, default=50)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, default=Path("training_parity.json"))
    arguments = parser.parse_args()
    peer = Peer(arguments.peer.absolute(), arguments.peer_work.absolute(), arguments.threads)
    check_plans(prepare(peer, arguments.data), arguments)
    dice: dict[str, list[float]] = {name: [] for name in (PEER, *arguments.networks)}
    for seed in arguments.seeds:
        for name in dice:
            dice[name].append(train_one(name, seed, peer, arguments))
            print(f"{name}, seed {seed}: {dice[name][-1]:.4f}", flush=True)
    rows = summarise(dice)
    print(text_table(rows, COLUMNS))
    write_json(
        arguments.output,
        {
            "arguments": {name: value for name, value in vars(arguments).items() if not isinstance(value, Path)},
            "dice": dice,
            "rows": rows,
        },
    )
    return 0 if all(row["difference"] >= -0.005 for row in rows if row["network"] == "baseline") else 1


def train_one(name: str, seed: int, peer: Peer, arguments: argparse.Namespace) -> float:
    """Return the mean foreground Dice of one training."""
    if name == PEER:
        sizes = (arguments.features, arguments.batch, seed, arguments.epochs, arguments.iterations)
        return dice_of(train_peer(peer, arguments.data.name, *sizes))
    folder = find_dataset(arguments.data, arguments.work)
    tag = f"parity_{arguments.features}_{arguments.batch}_{arguments.epochs}_{arguments.iterations}_{seed}"
    metrics = folder.model("3d_fullres", name, tag).fold(0).validation.metrics
    if not metrics.is_file():
        command = our_command(name, seed, tag, folder.path.name, arguments)
        if os.spawnve(os.P_WAIT, sys.executable, command, os.environ | threads_environment(peer.threads)):
            raise RuntimeError(f"`{' '.join(command[2:])}` failed")
    return float(read_json(metrics)["mean_foreground_dice"])


def our_command(name: str, seed: int, tag: str, dataset: str, arguments: argparse.Namespace) -> list[str]:
    """Return the command line of our training. The features of `se` are always those of the plan."""
    words = [sys.executable, "-m", "trainers.cli", dataset, "--work", str(arguments.work), "--network", name, "--tag", tag]
    words += ["--epochs", str(arguments.epochs), "--iterations", str(arguments.iterations), "--seed", str(seed), "--resume"]
    words += ["--workers", str(arguments.workers), "--device", "cpu", "--preset", "default", "--set", "validation_iterations=10"]
    words += [f"batch_size={arguments.batch}"] * bool(arguments.batch)
    return words + [f"base_features={arguments.features}"] * bool(arguments.features and name == "baseline")


def summarise(dice: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Return one row of the table for each network."""
    reference = statistics.mean(dice[PEER])
    return [
        {
            "network": name,
            "seeds": len(values),
            "mean_dice": statistics.mean(values),
            "lowest": min(values),
            "highest": max(values),
            "difference": statistics.mean(values) - reference,
        }
        for name, values in dice.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
