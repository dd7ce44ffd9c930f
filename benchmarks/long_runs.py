"""One training of a long comparison: what is trained, how, on which cases, and what it leaves.

All trainings share the validation cases of fold 0; training cases are drawn from the others of that fold by a seed, alike for all networks.
Each leaves one JSON file, which `benchmarks.long_records` brings into the tables that are committed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from configs.files import read_json, write_json
from configs.network import NetworkConfig
from configs.plan import Plan
from configs.training import load_training_config
from planners import plan_and_preprocess
from planners.options import PlanningOptions
from preprocessing.dataset import open_dataset
from trainers import train
from trainers.splits import make_splits

PEER = "nnU-Net"
CONFIGURATION = "3d_fullres"
EPOCHS = 20  # weights are kept after each
FEATURES, BATCH, STEPS = 8, 2, 6000
DECAY = 0.999  # of the average over the weights of steps

NetworkChange = Callable[[NetworkConfig, NetworkConfig], NetworkConfig]  # of the planned `se` and `baseline`


def _changed(config: NetworkConfig, **values: Any) -> NetworkConfig:
    return NetworkConfig.model_validate(config.model_dump() | values)


# Networks besides the planned ones, as changes of those.
NETWORKS: dict[str, NetworkChange] = {
    "se": lambda se, baseline: se,
    "baseline": lambda se, baseline: baseline,
    "plain": lambda se, baseline: _changed(se, family="plain", scale_group=None),
}

# Settings that differ from those of the preset `quick`.
RECIPES: dict[str, dict[str, Any]] = {
    "quick": {},
}


@dataclass(frozen=True)
class Run:
    """A training.

    Attributes:
        network: of `NETWORKS`, or nnU-Net itself.
        size: number of training cases.
        seed: draws the cases, the initial weights and the batches.
        recipe: of `RECIPES`; nnU-Net has its own.
        steps: of training.
    """

    network: str
    size: int
    seed: int
    recipe: str = "quick"
    steps: int = STEPS

    @property
    def name(self) -> str:
        """Tells it from the others, in file names too."""
        return f"{self.network}_{self.recipe}_{self.size}_{self.seed}_{self.steps}"


@dataclass(frozen=True)
class Place:
    """Where trainings happen.

    Attributes:
        dataset: raw folder.
        work: everything is kept there.
        peer: Python of nnU-Net's environment, or None.
    """

    dataset: Path
    work: Path
    peer: Path | None = None

    @property
    def records(self) -> Path:
        """What runs leave."""
        return self.work / "records"

    @property
    def prepared(self) -> Path:
        """The dataset's plan and prepared cases, which all trainings share."""
        return self.work / "prepared" / self.dataset.name


@dataclass
class Record:
    """What a run leaves, kept in a file that is written anew with each part.

    Attributes:
        path: of the file.
        content: facts, `curve` (one entry for each epoch), and Dice of cases.
    """

    path: Path
    content: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> "Record":
        """What is there already."""
        return cls(path, read_json(path) if path.is_file() else {})

    def put_point(self, step: int, values: Mapping[str, float | None]) -> None:
        """Set values of the curve at a step, in place of former ones."""
        curve = {point["step"]: point for point in self.content.get("curve", [])}
        curve[step] = curve.get(step, {"step": step}) | dict(values)
        self.put(curve=[curve[key] for key in sorted(curve)])

    def put(self, **values: Any) -> None:
        """Set values."""
        self.content |= values
        write_json(self.path, self.content)


def draw(cases: Sequence[str], size: int, seed: int) -> list[str]:
    """Training cases of a seed: those of a smaller number are among those of a larger one."""
    if size >= len(cases):
        return sorted(cases)
    order = np.random.default_rng(seed).permutation(sorted(cases))
    return sorted(str(case) for case in order[:size])


def split_of(dataset: Path, run: Run) -> dict[str, list[str]]:
    """Cases that train, and all of those of fold 0 that validate."""
    fold = make_splits(list(open_dataset(dataset).cases))[0]
    return {"train": draw(fold.training, run.size, run.seed), "val": list(fold.validation)}


def trained(run: Run, place: Place, trainer: str) -> Path:
    """Train to the end, from the checkpoint where there is one. Returns the model's folder."""
    work = _folder_of(run, place)
    plan = Plan.read(work / place.dataset.name / "plan.json")
    first, reference = (plan.network(CONFIGURATION, name).network.features[0] for name in (run.network, "baseline"))
    settings = {
        "epochs": EPOCHS, "iterations": run.steps // EPOCHS, "batch_size": BATCH, "seed": run.seed, "weight_average": DECAY,
        "base_features": round(FEATURES * first / reference), "validate_every": EPOCHS, "validation_iterations": 1,
        "workers": 0, "trainer_class": trainer,
    }  # fmt: skip
    config = load_training_config("quick", settings | RECIPES[run.recipe])
    place_of_fold = train(
        place.dataset.name, work, run.network, CONFIGURATION, 0, config, tag=f"{run.recipe}_{run.steps}", resume=True, device="cpu"
    )
    return place_of_fold.parent


def _folder_of(run: Run, place: Place) -> Path:
    """A folder for the drawn cases, with the plans of all networks and a link to the prepared cases."""
    prepare(place)
    work = place.work / f"cases_{run.size}_{run.seed}"
    folder = work / place.dataset.name
    folder.mkdir(parents=True, exist_ok=True)
    _plan_of(place).write(folder / "plan.json")
    if not (folder / "preprocessed").exists():
        (folder / "preprocessed").symlink_to((place.prepared / "preprocessed").resolve(), target_is_directory=True)
    write_json(folder / "splits.json", [split_of(place.dataset, run)])
    return work


def prepare(place: Place) -> None:
    """Plan the dataset and prepare its cases, where that is not done."""
    if not (place.prepared / "plan.json").is_file():
        plan_and_preprocess(place.dataset, place.prepared.parent, PlanningOptions(configurations=(CONFIGURATION,)), jobs=1)


def _plan_of(place: Place) -> Plan:
    """The plan, with the networks of `NETWORKS`; each takes everything else from the planned `se` or `baseline`."""
    plan = Plan.read(place.prepared / "plan.json")
    configuration = plan.configuration(CONFIGURATION)
    se, baseline = (configuration.networks[name] for name in ("se", "baseline"))
    networks = {
        name: (baseline if name == "baseline" else se).model_copy(update={"network": change(se.network, baseline.network)})
        for name, change in NETWORKS.items()
    }
    return plan.model_copy(update={"configurations": {CONFIGURATION: configuration.model_copy(update={"networks": networks})}})
