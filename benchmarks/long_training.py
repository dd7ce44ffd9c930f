"""Long comparisons of networks and recipes: a queue of trainings, two side by side, that goes on after any kill.

    python -m benchmarks.long_training one NETWORK SIZE SEED [--recipe RECIPE]      # a single training, to its end
"""

import argparse
import logging
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.long_runs import EPOCHS, PEER, STEPS, Place, Run, trained
from benchmarks.long_scores import KINDS, RECORD, Record, seal, test_cases
from configs.plan import Plan
from se_unet.allocator import keep_freed_memory
from se_unet.builder import build_network
from se_unet.weights import load_weights

DATASET = Path("/work/shared/data/Dataset004_Hippocampus")
WORK = Path("/work/long_work")
PEER_PYTHON = Path("/work/peer/bin/python")


def main() -> int:
    """Do what the command line says. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, default=DATASET, help="raw")
    parser.add_argument("--work", type=Path, default=WORK, help="trainings are kept here, and gone on with")
    parser.add_argument("--peer", type=Path, default=PEER_PYTHON, help=f"Python of an environment with {PEER}")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("one", help="a single training, to its end")
    one.add_argument("network")
    one.add_argument("size", type=int)
    one.add_argument("seed", type=int)
    one.add_argument("--recipe", default="quick")
    one.add_argument("--steps", type=int, default=STEPS)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    place = Place(given.dataset, given.work, given.peer)
    perform(Run(given.network, given.size, given.seed, given.recipe, given.steps), place)
    return 0


def perform(run: Run, place: Place) -> None:
    """Train, score the last weights on test cases, and leave the record where the tables find it."""
    torch.set_num_threads(1)
    keep_freed_memory()
    model = trained(run, place, "benchmarks.long_scores:CurveTrainer")
    record = Record.open(model / "fold_0" / RECORD)
    plan, networks = Plan.read(model / "plan.json"), {}
    for kind in KINDS:
        planned = next(iter(next(iter(plan.configurations.values())).networks.values()))
        networks[kind] = build_network(planned.network).eval()
        load_weights(networks[kind], model / "fold_0" / f"weights_{kind}_{EPOCHS:03d}.safetensors")
    seal(record, plan, networks, test_cases(place.dataset))
    record.put(run=asdict(run), commit=_commit(), finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    Record(place.records / f"{run.name}.json", record.content).put()


def _commit() -> str:
    """Of the tree that this program is of."""
    words = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
