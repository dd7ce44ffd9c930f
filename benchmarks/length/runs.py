"""One training of a long comparison: its network, recipe, cases and results.

All trainings share the validation cases of fold 0. A seed draws the training cases from the training part of that fold, the same cases for
all networks. All networks have the planned widths divided by the same number, and the same number of steps and patches.
"""

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.length import nnunet
from benchmarks.length.scores import KINDS, RECORD, Record, put_scores, score, scored, test_cases
from benchmarks.nnunet.nnunet_peer import Peer
from configs.files import write_json
from configs.network import NetworkConfig, ScaleGroup
from configs.plan import ModelPlan, Plan
from configs.training import load_training_config
from inference.model import make_network
from planners import plan_and_preprocess
from planners.options import PlanningOptions
from preprocessing.dataset.raw import open_dataset
from preprocessing.dataset.splits import make_splits
from se_unet.cpu.allocator import keep_freed_memory
from se_unet.weights import load_weights
from trainers import train

PEER = "nnU-Net"
PLANNED = "quick"  # the recipe that the others are compared with: the preset of this name
CONFIGURATION = "3d_fullres"
TRAINER = "benchmarks.length.scores:CurveTrainer"
EPOCHS = 20  # weights are kept after each
FEATURES, BATCH, STEPS = 8, 2, 6000
DECAY = 0.999  # of the average over the weights of steps


def _changed(config: NetworkConfig, **values: Any) -> NetworkConfig:
    return NetworkConfig.model_validate(config.model_dump() | values)


# What is trained, besides nnU-Net: the planned networks, and changes of the planned `se`.
NETWORKS: dict[str, Callable[[NetworkConfig], NetworkConfig]] = {
    "se": lambda se: se,
    "baseline": lambda se: se,  # the plan has its own
    "plain": lambda se: _changed(se, family="plain", scale_group=None),  # the skeleton of `se` with ordinary kernels
    "mixed": lambda se: _changed(se, family="mixed"),
    "mixed_two_widths": lambda se: _changed(se, family="mixed", scale_group=ScaleGroup(smallest_sigma=0.6, step=2.0, number=2)),
    "mixed_decoder": lambda se: _changed(se, family="mixed", decoder_blocks=tuple(2 for _ in se.decoder_blocks)),
    "se_tensor": lambda se: _changed(se, basis_order="tensor"),  # as many free numbers as an ordinary kernel, and still lawful
    "se_narrow": lambda se: _changed(se, scale_group=ScaleGroup(smallest_sigma=0.6)),
    "se_decoder": lambda se: _changed(se, decoder_blocks=tuple(2 for _ in se.decoder_blocks)),
}

# Settings that differ from those of the preset `quick`.
RECIPES: dict[str, dict[str, Any]] = {
    PLANNED: {},
    "cosine": {"schedule": "cosine", "warmup": 0.02},
    "slower": {"learning_rate": 3e-3, "schedule": "cosine", "warmup": 0.02},
    "decay": {"weight_decay": 0.1},
    "sgd": {"optimiser": "sgd"},
    "no_mirror": {"mirror": False},  # turned end for end, an anterior part looks like a posterior one
    "often": {"augmentation_class": "benchmarks.length.remedies:OftenTransformed"},
    "smooth_first": {"network_class": "benchmarks.length.remedies:SmoothFirst"},
}


@dataclass(frozen=True)
class Run:
    """One training of the comparison.

    Attributes:
        network: one of `NETWORKS`, or nnU-Net itself.
        size: number of training cases.
        seed: seed of the cases, the initial weights and the batches.
        recipe: one of `RECIPES`; nnU-Net has its own.
        steps: number of training steps.
    """

    network: str
    size: int
    seed: int
    recipe: str = PLANNED
    steps: int = STEPS

    @property
    def name(self) -> str:
        """Unique name of the training, also for files."""
        return f"{self.network}_{self.recipe}_{self.size}_{self.seed}_{self.steps}"


@dataclass(frozen=True)
class Place:
    """Folders in which trainings run.

    Attributes:
        dataset: folder of the raw dataset.
        work: folder for everything that trainings write.
        peer: path to the Python interpreter of nnU-Net's environment.
    """

    dataset: Path
    work: Path
    peer: Path

    @property
    def prepared(self) -> Path:
        """The dataset's plan and prepared cases, which all trainings share."""
        return self.work / "prepared" / self.dataset.name

    def record(self, run: Run) -> Path:
        """Return the results of a run so far."""
        return self._fold(run) / RECORD

    def model(self, run: Run) -> Path:
        """Return the model folder of a run, as `se_train` leaves it."""
        return self._fold(run).parent

    def _fold(self, run: Run) -> Path:
        models = self.work / f"cases_{run.size}_{run.seed}" / self.dataset.name / "models"
        return models / f"{CONFIGURATION}_{run.network}_{run.recipe}_{run.steps}" / "fold_0"


def perform(run: Run, place: Place) -> None:
    """Train to the end and score the last weights once on the test cases. Completed parts are not repeated."""
    torch.set_num_threads(1)
    keep_freed_memory()
    if not (place.prepared / "plan.json").is_file():
        prepare(place)
    networks = _train_peer(run, place) if run.network == PEER else _train(run, place)
    record = Record.open(place.record(run))
    if "test" not in record.content:
        plan, cases = ModelPlan.read(place.model(run) / "plan.json"), test_cases(place.dataset)
        record.put(test={kind: score(plan, network, cases).dice for kind, network in networks.items()})
    record.put(run=asdict(run), commit=_commit(), finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))


def draw(cases: Sequence[str], size: int, seed: int) -> list[str]:
    """Return the training cases of a seed; a larger number of cases includes those of a smaller number."""
    order = np.random.default_rng(seed).permutation(sorted(cases))
    return sorted(str(case) for case in order[:size])


def split_of(dataset: Path, run: Run) -> dict[str, list[str]]:
    """Return the training cases, and all validation cases of fold 0."""
    fold = make_splits(list(open_dataset(dataset).cases))[0]
    return {"train": draw(fold.training, run.size, run.seed), "val": list(fold.validation)}


def _train(run: Run, place: Place) -> dict[str, nn.Module]:
    """Train to the end, from the checkpoint if there is one. Returns the last network and its average."""
    folder = _folder_of(run, place)
    plan = Plan.read(folder / "plan.json")
    first, reference = (plan.network(CONFIGURATION, name).network.features[0] for name in (run.network, "baseline"))
    settings = {
        "epochs": EPOCHS, "iterations": run.steps // EPOCHS, "batch_size": BATCH, "seed": run.seed, "weight_average": DECAY,
        "base_features": round(FEATURES * first / reference), "validate_every": EPOCHS, "validation_iterations": 1,
        "workers": 0, "trainer_class": TRAINER,
    }  # fmt: skip
    config = load_training_config("quick", settings | RECIPES[run.recipe])
    tag = f"{run.recipe}_{run.steps}"
    train(folder.name, folder.parent, run.network, CONFIGURATION, 0, config, tag=tag, resume=True, device="cpu")
    planned = ModelPlan.read(place.model(run) / "plan.json").network
    networks = {kind: make_network(planned, config.network_class).eval() for kind in KINDS}
    for kind, network in networks.items():
        load_weights(network, place.record(run).with_name(f"weights_{kind}_{EPOCHS:03d}.safetensors"))
    return networks


def _train_peer(run: Run, place: Place) -> dict[str, nn.Module]:
    """Train nnU-Net with its own planner, augmentation and optimiser; steps, batch, features and cases equal those of the others."""
    peer = Peer(place.peer.absolute(), (place.work / PEER).absolute(), threads=1)
    sizes = nnunet.Sizes(FEATURES, BATCH, run.seed, EPOCHS, run.steps // EPOCHS, DECAY)
    split = split_of(place.dataset, run)
    theirs = nnunet.train(peer, place.dataset, sizes, split)
    nnunet.write_plan(theirs, place.model(run))
    plan, record = ModelPlan.read(place.model(run) / "plan.json"), Record.open(place.record(run))
    raw, networks = open_dataset(place.dataset).cases, {}
    for epoch in range(1, EPOCHS + 1):
        step = epoch * sizes.iterations
        record.put_point(step, nnunet.facts_of(theirs, epoch))
        if scored(epoch, EPOCHS):
            networks = {kind: nnunet.read_network(theirs, kind, epoch) for kind in KINDS}
            scores = {
                kind: score(plan, network, {case: raw[case] for case in split["val"]}) for kind, network in networks.items()
            }
            put_scores(record, step, scores, last=epoch == EPOCHS)
    return networks


def _folder_of(run: Run, place: Place) -> Path:
    """Make a folder for the drawn cases, with the plans of all networks and a link to the prepared cases."""
    folder = place.model(run).parents[1]
    folder.mkdir(parents=True, exist_ok=True)
    _with_networks(Plan.read(place.prepared / "plan.json")).write(folder / "plan.json")
    if not (folder / "preprocessed").exists():
        (folder / "preprocessed").symlink_to((place.prepared / "preprocessed").resolve(), target_is_directory=True)
    write_json(folder / "splits.json", [split_of(place.dataset, run)])
    return folder


def prepare(place: Place) -> None:
    """Plan the dataset and prepare the cases that are not prepared. Trainings that begin together must not do this at once."""
    plan_and_preprocess(place.dataset, place.prepared.parent, PlanningOptions(configurations=(CONFIGURATION,)), jobs=1)


def _with_networks(plan: Plan) -> Plan:
    """Return the plan with all of `NETWORKS`; those without a plan take everything but the network itself from the planned `se`."""
    configuration = plan.configuration(CONFIGURATION)
    planned = configuration.networks["se"]
    networks: Mapping[str, Any] = {
        name: planned.model_copy(update={"network": change(planned.network)}) for name, change in NETWORKS.items()
    }
    changed = configuration.model_copy(update={"networks": {**networks, **configuration.networks}})
    return plan.model_copy(update={"configurations": {CONFIGURATION: changed}})


def _commit() -> str:
    """Return the commit of the tree that contains this program."""
    words = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
