"""Run nnU-Net: its planner, a checkpoint of its weights and its predictions.

nnU-Net has an environment of its own (`pip install torch nnunetv2==2.8.1`); its Python is given by path and runs as a process.
"""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from inference.bundle.nnunet.install import import_nnunet

TRAINER = "nnUNetTrainer__nnUNetPlans__3d_fullres"

# Run by nnU-Net's Python: plan a dataset, initialise its network from a seed, and save that as a finished training.
MAKE_MODEL = """
import json, sys, torch
from pathlib import Path
from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_results
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
name, changes, seed = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
number = int(name[7:10])
extract_fingerprints([number], num_processes=1, check_dataset_integrity=False, verbose=False)
plan_experiments([number])
plans = json.loads((Path(nnUNet_preprocessed) / name / "nnUNetPlans.json").read_text())
dataset = json.loads((Path(nnUNet_preprocessed) / name / "dataset.json").read_text())
planned = plans["configurations"]["3d_fullres"]
if changes["features"]:
    parts = planned["architecture"]["arch_kwargs"]
    parts["features_per_stage"] = [min(changes["features"] * 2**stage, 10 * changes["features"]) for stage in range(parts["n_stages"])]
if changes["classes"]:
    dataset["labels"] = {"background": 0, **{f"label {value}": value for value in range(1, changes["classes"])}}
torch.manual_seed(seed)
plans["continue_training"] = False
prepared = Path(nnUNet_preprocessed) / name / plans["configurations"]["3d_fullres"]["data_identifier"]
prepared.mkdir(exist_ok=True)  # the trainer looks there for the kind of files, which it does not need here
(prepared / "none.b2nd").touch()
trainer = nnUNetTrainer(plans, "3d_fullres", 0, dataset, device=torch.device("cpu"))
trainer.initialize()
trainer.inference_allowed_mirroring_axes = (0, 1, 2)  # as its data loaders would set it
folder = Path(nnUNet_results) / name / "nnUNetTrainer__nnUNetPlans__3d_fullres"
(folder / "fold_0").mkdir(parents=True, exist_ok=True)
for file, content in (("plans.json", plans), ("dataset.json", dataset)):
    (folder / file).write_text(json.dumps(content))
trainer.save_checkpoint(str(folder / "fold_0" / "checkpoint_final.pth"))
"""


@dataclass(frozen=True)
class Peer:
    """nnU-Net with a working folder.

    Attributes:
        python: path to the Python of its environment.
        work: its three folders are made there.
        threads: number of threads of each of its processes.
    """

    python: Path
    work: Path
    threads: int

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables of its processes."""
        folders = {f"nnUNet_{name}": str(self.work / name) for name in ("raw", "preprocessed", "results")}
        more = {"nnUNet_compile": "f", "nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": str(self.threads)}
        return os.environ | folders | more | threads_environment(self.threads)

    def make_model(self, dataset: Path, features: int | None = None, classes: int | None = None, seed: int = 0) -> Path:
        """Plan a raw dataset and save its network's initial weights as a trained model. Returns the model's folder.

        Features of the first stage and classes are the planned ones, or others.
        """
        (self.work / "raw").mkdir(parents=True, exist_ok=True)
        linked = self.work / "raw" / dataset.name
        if not linked.exists():
            linked.symlink_to(dataset.resolve(), target_is_directory=True)
        for name in ("preprocessed", "results"):
            (self.work / name).mkdir(exist_ok=True)
        arguments = [dataset.name, json.dumps({"features": features, "classes": classes}), str(seed)]
        run_quietly([str(self.python), "-c", MAKE_MODEL, *arguments], self.environment)
        return self.work / "results" / dataset.name / TRAINER

    def predict_command(self, model: Path, images: Path, output: Path, mirror: bool, probabilities: bool = False) -> list[str]:
        """Return the command line of its prediction."""
        program = self.python.with_name("nnUNetv2_predict_from_modelfolder")
        words = [str(program), "-i", str(images), "-o", str(output), "-m", str(model), "-f", "0", "-device", "cpu"]
        words += ["-npp", "1", "-nps", "1", "--disable_progress_bar"]
        return words + ["--disable_tta"] * (not mirror) + ["--save_probabilities"] * probabilities


def threads_environment(threads: int) -> dict[str, str]:
    """Return environment variables that limit the threads of every library."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))


def run_quietly(command: list[str], environment: dict[str, str]) -> None:
    """Run to the end.

    Raises:
        RuntimeError: it failed; with the end of what it printed.
    """
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:2])} ended with {done.returncode}:\n{done.stdout[-3000:]}")


def our_model(theirs: Path, folder: Path) -> Path:
    """Import a model of nnU-Net's, by whatever trainer, unless that is done, and return its folder."""
    if not folder.exists():
        import_nnunet(theirs, folder, trust_trainer=True)
    return folder
