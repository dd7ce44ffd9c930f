"""Train nnU-Net itself in a separate process, and read its weights and their average after each epoch as networks of ours."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.nnunet import peer_training
from benchmarks.nnunet.nnunet_peer import TRAINER, Peer, our_model, run_quietly
from se_unet.builder import build_network
from se_unet.nnunet.checkpoint import read_nnunet_checkpoint

# Run by nnU-Net's Python. Arguments: dataset, sizes as JSON. It goes on where a former run stopped.
_TRAIN = """
import json, os, random, sys, time
import numpy as np, torch
from pathlib import Path
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

class Averaging(nnUNetTrainer):
    def train_step(self, batch):
        result = super().train_step(batch)
        self.average.update_parameters(self.network)
        return result

    def on_epoch_start(self):
        self.began = time.perf_counter()
        super().on_epoch_start()

    def on_train_epoch_end(self, outputs):
        super().on_train_epoch_end(outputs)
        loss, seconds = float(np.mean([each["loss"] for each in outputs])), time.perf_counter() - self.began
        networks = {"raw": self.network, "averaged": self.average.module}
        content = {kind: network.state_dict() for kind, network in networks.items()}
        content |= {"training_loss": loss, "seconds": seconds, "state": self.average.state_dict()}
        target = folder_of(self) / f"epoch_{self.current_epoch + 1:03d}.pth"
        torch.save(content, target.with_suffix(".partial"))
        os.replace(target.with_suffix(".partial"), target)

def folder_of(trainer):
    return Path(trainer.output_folder)

if __name__ == "__main__":
    name, sizes = sys.argv[1], json.loads(sys.argv[2])
    folder = Path(nnUNet_preprocessed) / name
    plans = json.loads((folder / "nnUNetPlans.json").read_text())
    settings = plans["configurations"]["3d_fullres"]
    settings["batch_size"] = sizes["batch"]
    widths = settings["architecture"]["arch_kwargs"]
    widths["features_per_stage"] = [each * sizes["features"] // widths["features_per_stage"][0] for each in widths["features_per_stage"]]
    plans["continue_training"] = (Path(os.environ["nnUNet_results"]) / name).exists()
    torch.set_num_threads(1)
    random.seed(sizes["seed"]), np.random.seed(sizes["seed"]), torch.manual_seed(sizes["seed"])
    trainer = Averaging(plans, "3d_fullres", 0, json.loads((folder / "dataset.json").read_text()), device=torch.device("cpu"))
    trainer.num_epochs, trainer.num_iterations_per_epoch = sizes["epochs"], sizes["iterations"]
    trainer.num_val_iterations_per_epoch, trainer.save_every = 1, 1
    trainer.initialize()
    trainer.average = AveragedModel(trainer.network, multi_avg_fn=get_ema_multi_avg_fn(sizes["decay"]))
    latest = folder_of(trainer) / "checkpoint_latest.pth"
    if latest.exists():
        trainer.load_checkpoint(str(latest))
        kept = torch.load(folder_of(trainer) / f"epoch_{trainer.current_epoch:03d}.pth", weights_only=True)
        trainer.average.load_state_dict(kept["state"])
        np.random.seed([sizes["seed"], trainer.current_epoch])  # other patches than at the start
    if not (folder_of(trainer) / "checkpoint_final.pth").exists():
        trainer.run_training()
    os._exit(0)
"""


@dataclass(frozen=True)
class Sizes:
    """Settings of a training.

    Attributes:
        features: channels of the first stage.
        batch: patches of a step.
        seed: seed of weights and data.
        epochs, iterations: number of epochs, and of steps in each.
        decay: decay of the weight average, which is updated in every step.
    """

    features: int
    batch: int
    seed: int
    epochs: int
    iterations: int
    decay: float


def train(peer: Peer, dataset: Path, sizes: Sizes, split: Mapping[str, Sequence[str]]) -> Path:
    """Train to the end, from the last complete epoch if there is one. Returns nnU-Net's model folder."""
    peer_training.prepare(peer, dataset)
    cases = len(split["train"])
    results = peer.work / f"long_{sizes.features}_{sizes.batch}_{sizes.epochs}_{sizes.iterations}_{sizes.seed}_{cases}"
    results.mkdir(parents=True, exist_ok=True)
    prepared = peer_training.with_split(peer, dataset.name, split, results / "preprocessed")
    environment = peer.environment | {
        "nnUNet_results": str(results),
        "nnUNet_preprocessed": str(prepared),
        "nnUNet_n_proc_DA": "0",
    }
    model = results / dataset.name / TRAINER.replace("nnUNetTrainer", "Averaging", 1)
    if not (model / "fold_0" / "checkpoint_final.pth").is_file():
        run_quietly([str(peer.python), "-c", _TRAIN, dataset.name, json.dumps(asdict(sizes))], environment)
    return model


def write_plan(theirs: Path, folder: Path) -> None:
    """Return the plan of a finished training as one of ours, with its final weights."""
    if not (folder / "plan.json").is_file():
        our_model(theirs, folder)


def facts_of(theirs: Path, epoch: int) -> dict[str, float]:
    """Return the training loss and the seconds of an epoch, counted from 1."""
    content = _epoch(theirs, epoch)
    return {name: float(content[name]) for name in ("training_loss", "seconds")}


def read_network(theirs: Path, kind: str, epoch: int) -> nn.Module:
    """Return the network after an epoch, with its own or with averaged weights."""
    final = read_nnunet_checkpoint(theirs / "fold_0" / "checkpoint_final.pth")
    checkpoint = replace(final, weights=_epoch(theirs, epoch)[kind])
    network = build_network(checkpoint.network)
    network.load_state_dict(checkpoint.our_weights())
    return network.eval()


def _epoch(theirs: Path, epoch: int) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(theirs / "fold_0" / f"epoch_{epoch:03d}.pth", weights_only=True)
    return content
