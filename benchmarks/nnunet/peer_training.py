"""Run nnU-Net's training as a process: single steps on request, or a short training.

Its features may be made fewer, so that a comparison on a CPU ends; everything else is what its planner and trainer decide.
"""

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.nnunet.nnunet_peer import Peer, run_quietly

# What both programs below begin with. Arguments: dataset, features of the first stage and batch (0: as planned), seed.
_BEGIN = """
import json, os, random, sys, time
import numpy as np, torch
from pathlib import Path
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

def make(name, features, seed, batch=0):
    folder = Path(nnUNet_preprocessed) / name
    plans = json.loads((folder / "nnUNetPlans.json").read_text())
    settings = plans["configurations"]["3d_fullres"]
    settings["batch_size"] = batch or settings["batch_size"]
    sizes = settings["architecture"]["arch_kwargs"]
    if features:
        sizes["features_per_stage"] = [each * features // sizes["features_per_stage"][0] for each in sizes["features_per_stage"]]
    plans["continue_training"] = (Path(os.environ["nnUNet_results"]) / name).exists()
    random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
    return nnUNetTrainer(plans, "3d_fullres", 0, json.loads((folder / "dataset.json").read_text()), device=torch.device("cpu"))
"""

# Take as many steps as each line of the standard input says, and tell the seconds of each, and those spent waiting for data.
_STEPS = """
if __name__ == "__main__":
    trainer = make(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    trainer.on_train_start()
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    print("@@ready", flush=True)
    for line in sys.stdin:
        steps, waits = [], []
        for _ in range(int(line)):
            start = time.perf_counter()
            batch = next(trainer.dataloader_train)
            waits.append(time.perf_counter() - start)
            trainer.train_step(batch)
            steps.append(time.perf_counter() - start)
        print("@@" + json.dumps({"steps": steps, "waits": waits}), flush=True)
    os._exit(0)
"""

# Train and validate; go on where a former run stopped. Further arguments: epochs, iterations, batch.
_TRAIN = """
if __name__ == "__main__":
    trainer = make(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[6]))
    trainer.num_epochs, trainer.num_iterations_per_epoch = int(sys.argv[4]), int(sys.argv[5])
    trainer.num_val_iterations_per_epoch, trainer.save_every = 10, 1
    trainer.initialize()
    latest = Path(trainer.output_folder) / "checkpoint_latest.pth"
    if latest.exists():
        trainer.load_checkpoint(str(latest))
    if not (Path(trainer.output_folder) / "checkpoint_final.pth").exists():
        trainer.run_training()
    trainer.load_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
    trainer.perform_actual_validation(False)
    os._exit(0)
"""


def prepare(peer: Peer, dataset: Path) -> dict[str, Any]:
    """Plan and preprocess a raw dataset with nnU-Net, unless this is done. Returns its settings of 3d_fullres."""
    for name in ("raw", "preprocessed", "results"):
        (peer.work / name).mkdir(parents=True, exist_ok=True)
    linked = peer.work / "raw" / dataset.name
    if not linked.exists():
        linked.symlink_to(dataset.resolve(), target_is_directory=True)
    done = peer.work / "preprocessed" / dataset.name / "prepared.txt"
    if not done.exists():
        program = peer.python.with_name("nnUNetv2_plan_and_preprocess")
        words = [str(program), "-d", dataset.name[7:10], "-c", "3d_fullres", "-npfp", str(peer.threads), "-np", str(peer.threads)]
        run_quietly(words, peer.environment)
        done.touch()
    plans = json.loads((done.parent / "nnUNetPlans.json").read_text(encoding="utf-8"))
    settings: dict[str, Any] = plans["configurations"]["3d_fullres"]
    return settings


def train(
    peer: Peer,
    dataset: str,
    features: int,
    batch: int,
    seed: int,
    epochs: int,
    iterations: int,
    split: Mapping[str, Sequence[str]] | None = None,
) -> Path:
    """Train and validate fold 0, unless this is done. Returns the model's folder, which contains `fold_0`.

    Args:
        peer: nnU-Net, with the dataset prepared.
        dataset: its name.
        features: channels of the first stage; 0 takes the plan's.
        batch: 0 takes the plan's.
        seed: seed of weights and data.
        epochs, iterations: an epoch is this many steps.
        split: other cases than nnU-Net's own fold 0, under `train` and `val`.
    """
    name = f"results_{features}_{batch}_{epochs}_{iterations}_{seed}"
    if split is not None:
        name += f"_{len(split['train'])}"
    results = peer.work / name
    results.mkdir(parents=True, exist_ok=True)
    environment = peer.environment | {"nnUNet_results": str(results)}
    if split is not None:
        environment["nnUNet_preprocessed"] = str(with_split(peer, dataset, split, results / "preprocessed"))
    model = results / dataset / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    if not _summary(model).exists():
        numbers = [str(number) for number in (features, seed, epochs, iterations, batch)]
        run_quietly([str(peer.python), "-c", _BEGIN + _TRAIN, dataset, *numbers], environment)
    return model


def dice_of(model: Path) -> float:
    """Return the mean foreground Dice of the whole validation volumes of fold 0."""
    return float(json.loads(_summary(model).read_text(encoding="utf-8"))["foreground_mean"]["Dice"])


def _summary(model: Path) -> Path:
    return model / "fold_0" / "validation" / "summary.json"


def with_split(peer: Peer, dataset: str, split: Mapping[str, Sequence[str]], folder: Path) -> Path:
    """Return another folder of the prepared dataset, with its own split."""
    (folder / dataset).mkdir(parents=True, exist_ok=True)
    for entry in (peer.work / "preprocessed" / dataset).iterdir():
        link = folder / dataset / entry.name
        if entry.name != "splits_final.json" and not link.exists():
            link.symlink_to(entry, target_is_directory=entry.is_dir())
    parts = {part: list(cases) for part, cases in split.items()}
    (folder / dataset / "splits_final.json").write_text(json.dumps([parts]), encoding="utf-8")
    return folder


def steps_command(peer: Peer, dataset: str, features: int, seed: int) -> list[str]:
    """Return the command line of the process that takes steps on request."""
    return [str(peer.python), "-c", _BEGIN + _STEPS, dataset, str(features), str(seed)]


class Stepper:
    """A process that takes training steps on request. It is paused between requests, with its loading processes.

    Args:
        command: its words.
        environment: environment variables of the process.
    """

    def __init__(self, command: Sequence[str], environment: dict[str, str]):
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def __enter__(self) -> "Stepper":
        try:
            self._answer()
        except RuntimeError:
            self._process.communicate()
            raise
        self._signal(signal.SIGSTOP)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process.poll() is None:
            self._signal(signal.SIGKILL)
        self._process.communicate()

    def take(self, steps: int) -> dict[str, list[float]]:
        """Return the seconds of each step (`steps`), and the seconds of waiting for data (`waits`)."""
        if self._process.stdin is None:
            raise RuntimeError("the process has no standard input")
        self._signal(signal.SIGCONT)
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        answer: dict[str, list[float]] = json.loads(self._answer())
        self._signal(signal.SIGSTOP)
        return answer

    def _answer(self) -> str:
        for line in self._process.stdout or ():
            if line.startswith("@@"):
                return line[2:]
        raise RuntimeError(f"the process that takes steps ended with {self._process.wait()}")

    def _signal(self, number: signal.Signals) -> None:
        os.killpg(self._process.pid, number)
