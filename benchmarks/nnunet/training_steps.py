"""Take training steps on request: each line of the standard input gives their number. `benchmarks.nnunet.training_speed` starts it.

python -m benchmarks.nnunet.training_steps WORK DATASET NETWORK --features 8 --workers 2
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch

from configs.folders import find_dataset
from configs.plan import Plan
from configs.progress import Silent
from configs.training import TrainingConfig
from inference.device import choose_device
from preprocessing.dataset.splits import choose_split
from preprocessing.store import CaseStore
from se_unet.cpu.allocator import keep_freed_memory
from trainers.building import make_learner, make_parts
from trainers.interruption import StopRequest
from trainers.job import Job, adapt_plan
from trainers.loop import Parts
from trainers.optimisation.checkpoint import TrainingState


def main() -> int:
    """Answer the lines of the standard input. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("dataset")
    parser.add_argument("network")
    parser.add_argument("--features", type=int, help="channels of the first stage; default: the plan's")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--device")
    arguments = parser.parse_args()
    keep_freed_memory()
    parts = make(arguments)
    for _ in range(2):
        take(parts)
    print("@@ready", flush=True)
    for line in sys.stdin:
        taken = [take(parts) for _ in range(int(line))]
        print("@@" + json.dumps({"steps": [step for step, _ in taken], "waits": [wait for _, wait in taken]}), flush=True)
    parts.stream.close()
    return 0


def make(arguments: argparse.Namespace) -> Parts:
    """Build a training of fold 0 with the default settings, which writes nothing."""
    config = TrainingConfig(base_features=arguments.features, workers=arguments.workers)
    folder = find_dataset(arguments.dataset, arguments.work)
    plan = Plan.read(folder.plan)
    adapted = plan.only("3d_fullres", arguments.network, adapt_plan(plan.network("3d_fullres", arguments.network), config))
    split = choose_split(folder.splits, 0, CaseStore(folder.prepared(adapted)).identifiers())
    model = folder.model("3d_fullres", arguments.network, "benchmark")
    job = Job(model.fold(0), split, adapted, config, choose_device(arguments.device), "")
    return make_parts(job, make_learner(job), TrainingState(), StopRequest(), Silent())


def take(parts: Parts) -> tuple[float, float]:
    """Take one step. Returns its seconds, and the seconds of waiting for its batch."""
    start = time.perf_counter()
    batch = next(parts.stream)
    waited = time.perf_counter() - start
    parts.step(*(torch.from_numpy(array).to(parts.job.device) for array in (batch.images, batch.labels)))
    return time.perf_counter() - start, waited


if __name__ == "__main__":
    sys.exit(main())
