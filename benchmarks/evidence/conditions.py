"""Train networks alike on training cases that are drawn by a seed, for the comparisons of the evidence.

Each set of drawn cases has a folder under WORK that is laid out as `se_train` leaves it, so that `se_report` and the other commands
work on it. The prepared cases are shared. The public calls of the library do all the work; nnU-Net, where its Python is given, trains
in its own processes, and its weights are then read into a folder of ours, so that one predictor measures all.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.nnunet import peer_training
from benchmarks.nnunet.nnunet_peer import Peer, our_model
from configs.files import write_json
from configs.plan import Plan
from configs.training import load_training_config
from planners import plan_and_preprocess
from planners.options import PlanningOptions
from preprocessing.dataset.raw import CaseFiles, find_cases, open_dataset
from trainers import train

PEER = "nnU-Net"
NETWORKS = ("baseline", "se", "se1", "se4", PEER)
EPOCHS = 20  # a checkpoint after each, where an interrupted training goes on
WATCHED = 2  # validation cases, which decide nothing here


@dataclass(frozen=True)
class Recipe:
    """Settings that all networks of a comparison share.

    Attributes:
        dataset: raw folder.
        work: everything is kept there.
        steps: number of training steps.
        batch: patches of a step.
        features: channels of the baseline's first stage; the others keep the proportion of their plans.
        preset: optimiser and everything else of our trainings.
        threads: number of threads of nnU-Net's processes.
        peer: Python of nnU-Net's environment, or None.
        spacing: mm (Z, Y, X) of our networks' grid, instead of the planned one.
    """

    dataset: Path
    work: Path
    steps: int
    batch: int
    features: int
    preset: str = "quick"
    threads: int = 1
    peer: Path | None = None
    spacing: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Condition:
    """One training.

    Attributes:
        network: one of `NETWORKS`: `se` as planned, `se1` and `se4` with the number of scales forced.
        scaling: whether training scales the anatomy at random, among its other augmentation.
        size: number of training cases.
        seed: draws the cases and the initial weights.
    """

    network: str
    scaling: bool
    size: int
    seed: int

    @property
    def name(self) -> str:
        """Unique name of the training, also for files."""
        return f"{self.network}{'' if self.scaling else '_one_size'}_{self.size}_{self.seed}"


def draw(cases: Sequence[str], size: int, seed: int) -> tuple[list[str], list[str]]:
    """Return the training cases and the remaining cases. An odd seed reverses the order of the even seed before it, which swaps halves."""
    order = [str(case) for case in np.random.default_rng(seed // 2).permutation(sorted(cases))]
    order = order[::-1] if seed % 2 else order
    return sorted(order[:size]), sorted(order[size:])


def test_cases(dataset: Path, size: int, seed: int) -> dict[str, CaseFiles]:
    """Return the test cases: `imagesTs` with `labelsTs` if the dataset has them, and otherwise the training cases that were not drawn."""
    raw = open_dataset(dataset)
    truth = dataset / "labelsTs"
    if truth.is_dir():
        images = find_cases(dataset / "imagesTs", raw.description)
        return {case: CaseFiles(files, truth / f"{case}{raw.description.file_ending}") for case, files in images.items()}
    return {case: raw.cases[case] for case in draw(list(raw.cases), size, seed)[1]}


def trained(condition: Condition, recipe: Recipe) -> Path:
    """Return the model folder of a condition. A missing training is run, and an interrupted one is continued."""
    cases = list(open_dataset(recipe.dataset).cases)
    training, left = draw(cases, condition.size, condition.seed)
    if condition.network == PEER:
        return _trained_peer(condition, recipe, {"train": training, "val": (left or training)[:WATCHED]})
    network = "baseline" if condition.network == "baseline" else "se"
    work = _prepared(condition, recipe, {"train": training, "val": left[:WATCHED]})
    plan = Plan.read(work / recipe.dataset.name / "plan.json")
    first, reference = (plan.network("3d_fullres", name).network.features[0] for name in (network, "baseline"))
    settings = {
        "epochs": EPOCHS, "iterations": recipe.steps // EPOCHS, "batch_size": recipe.batch,
        "base_features": round(recipe.features * first / reference), "augment_scale": condition.scaling, "seed": condition.seed,
        "validate_every": EPOCHS, "validation_iterations": 1, "workers": 1,
    }  # fmt: skip
    config = load_training_config(recipe.preset, settings)
    tag = f"{'scaled' if condition.scaling else 'one_size'}_{recipe.steps}"  # one of other steps is another training, not its beginning
    return train(recipe.dataset.name, work, network, "3d_fullres", 0, config, tag=tag, resume=True, device="cpu").parent


def _prepared(condition: Condition, recipe: Recipe, split: dict[str, list[str]]) -> Path:
    """Make a folder for the drawn cases, with the network's plan and a link to the prepared cases."""
    group = condition.network.removeprefix("se") if condition.network.startswith("se") else ""
    shared = recipe.work / f"prepared{group}"
    if not (shared / recipe.dataset.name / "plan.json").is_file():
        options = PlanningOptions(
            configurations=("3d_fullres",), num_scales=int(group) if group else None, spacing=recipe.spacing
        )
        plan_and_preprocess(recipe.dataset, shared, options, jobs=1)
    work = recipe.work / f"cases_{condition.size}_{condition.seed}{'_scales_' + group if group else ''}"
    folder = work / recipe.dataset.name
    if not (folder / "splits.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        for file in (shared / recipe.dataset.name).glob("*.json"):
            shutil.copy(file, folder / file.name)
        if not (folder / "preprocessed").exists():
            (folder / "preprocessed").symlink_to(
                (shared / recipe.dataset.name / "preprocessed").resolve(), target_is_directory=True
            )
        write_json(folder / "splits.json", [split])
    return work


def _trained_peer(condition: Condition, recipe: Recipe, split: dict[str, list[str]]) -> Path:
    """Train nnU-Net with its own planner, augmentation and optimiser. Only steps, batch and features are those of the other networks.

    Raises:
        ValueError: its Python was not given, or it should leave out what it always does.
    """
    if recipe.peer is None or not condition.scaling:
        raise ValueError("nnU-Net needs the Python of its environment, and always scales at random")
    folder = recipe.work / f"cases_{condition.size}_{condition.seed}" / f"{PEER}_{recipe.steps}"
    if not folder.exists():
        peer = Peer(recipe.peer.absolute(), (recipe.work / PEER).absolute(), recipe.threads)
        peer_training.prepare(peer, recipe.dataset)
        sizes = (recipe.features, recipe.batch, condition.seed, EPOCHS, recipe.steps // EPOCHS)
        our_model(peer_training.train(peer, recipe.dataset.name, *sizes, split=split), folder)
    return folder
