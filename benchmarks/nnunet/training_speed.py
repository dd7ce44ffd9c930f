"""Time a training step with its data: nnU-Net, our baseline of the same plan, and the scale-equivariant network.

    python -m benchmarks.nnunet.training_speed --peer PEER/bin/python --data ../shared/data/Dataset004_Hippocampus --work se_work

nnU-Net's trainer and ours take turns, some steps each, in processes that are stopped while the others run; so the load of the machine
falls on all alike. Both train on the same images with the same patch, batch and features, each with its own loading processes. WORK
holds the dataset planned and preprocessed by `se_plan_and_preprocess`; nnU-Net prepares it in --peer-work. Ratios are medians over the
rounds of the mean step against nnU-Net's.
"""

import argparse
import os
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.common.options import add_peer
from benchmarks.common.rounds import median_ratio
from benchmarks.common.tables import text_table
from benchmarks.nnunet.nnunet_peer import Peer, threads_environment
from benchmarks.nnunet.peer_training import Stepper, prepare, steps_command
from configs.files import write_json
from configs.folders import find_dataset
from configs.plan import Plan

PEER = "nnU-Net"
COLUMNS = {
    "network": "{}",
    "seconds_per_step": "{:.3f}",
    "data_wait_share": "{:.1%}",
    "ratio": "{:.3f}",
    "ratio_to_baseline": "{:.3f}",
}


def main() -> int:
    """Measure, print a table and write a JSON file. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_peer(parser, "the raw dataset")
    parser.add_argument("--work", type=Path, required=True, help="working folder of se_plan_and_preprocess")
    parser.add_argument("--peer-work", type=Path, help="folder of nnU-Net's files, which is kept; default: a temporary folder")
    parser.add_argument("--networks", nargs="+", default=["baseline", "se"])
    parser.add_argument(
        "--features", type=int, default=0, help="features of the first stage in nnU-Net and the baseline; default: as planned"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=10, help="number of steps of each network in a round; default: %(default)s")
    parser.add_argument(
        "--workers", type=int, default=1, help="number of loading processes of each network; default: %(default)s"
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("training_speed.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        peer = Peer(arguments.peer.absolute(), (arguments.peer_work or Path(temporary)).absolute(), arguments.threads)
        check_plans(prepare(peer, arguments.data), arguments)
        rounds = measure(peer, arguments)
    rows = summarise(rounds)
    print(text_table(rows, COLUMNS))
    write_json(
        arguments.output,
        {
            "arguments": {name: value for name, value in vars(arguments).items() if not isinstance(value, Path)},
            "rows": rows,
            "rounds": rounds,
        },
    )
    return 0


def check_plans(theirs: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Raise `ValueError` if the two plans differ in the size of patches or batches."""
    folder = find_dataset(arguments.data, arguments.work)
    ours = Plan.read(folder.plan).network("3d_fullres", "baseline")
    found, expected = (list(ours.patch_size), ours.batch_size), (theirs["patch_size"], theirs["batch_size"])
    if found != expected:
        raise ValueError(f"our plan has patch and batch {found}, nnU-Net's {expected}: the steps would not be the same work")


def measure(peer: Peer, arguments: argparse.Namespace) -> list[dict[str, dict[str, list[float]]]]:
    """Return for each round: network -> seconds of its steps, and seconds of waiting for data. The first round does not count."""
    environment = peer.environment | {"nnUNet_n_proc_DA": str(arguments.workers)}
    with ExitStack() as stack:
        steppers = {
            PEER: stack.enter_context(Stepper(steps_command(peer, arguments.data.name, arguments.features, 0), environment))
        }
        for network in arguments.networks:
            steppers[network] = stack.enter_context(Stepper(our_command(network, arguments), environment_of(peer)))
        return [{name: stepper.take(arguments.steps) for name, stepper in steppers.items()} for _ in range(arguments.rounds + 1)][
            1:
        ]


def our_command(network: str, arguments: argparse.Namespace) -> list[str]:
    """Return the command line of our process. The features of `se` are always those of the plan."""
    dataset = find_dataset(arguments.data, arguments.work).path.name
    words = [sys.executable, "-m", "benchmarks.nnunet.training_steps", str(arguments.work), dataset, network]
    words += ["--workers", str(arguments.workers), "--device", "cpu"]
    return words + ["--features", str(arguments.features)] * bool(arguments.features and network == "baseline")


def environment_of(peer: Peer) -> dict[str, str]:
    """Return the environment variables of our processes."""
    return os.environ | threads_environment(peer.threads)


def summarise(rounds: list[dict[str, dict[str, list[float]]]]) -> list[dict[str, Any]]:
    """Return one row of the table for each network."""
    means = {name: [statistics.mean(one[name]["steps"]) for one in rounds] for name in rounds[0]}
    rows = []
    for name, seconds in means.items():
        waits = [statistics.mean(one[name]["waits"]) for one in rounds]
        row: dict[str, Any] = {"network": name, "seconds_per_step": statistics.median(seconds)}
        row["data_wait_share"] = sum(waits) / sum(seconds)
        row["ratio"] = median_ratio(seconds, means[PEER])
        if "baseline" in means:
            row["ratio_to_baseline"] = median_ratio(seconds, means["baseline"])
        rows.append(row)
    return rows


if __name__ == "__main__":
    sys.exit(main())
