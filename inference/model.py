"""A trained model: a folder with the plan and the weights of one or more folds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, model_validator
from torch import nn

from configs.errors import Fault, InputError, collecting, raise_faults
from configs.files import Value, list_folder
from configs.named_parts import import_part
from configs.plan import ConfigurationPlan, NetworkPlan, Plan
from se_unet.builder import build_network
from se_unet.weights import load_weights

CHECKPOINTS = ("final", "best")
SCALES_FILE = "scales.json"


class ScaleEnsemble(Value):
    """Scale factors and their weights in the mean, learned on validation cases and kept with the model as `scales.json`.

    Attributes:
        scales: factors of the image's size.
        weights: one for each, not negative.
        cases: on how many validation cases they were learned.
    """

    scales: tuple[float, ...] = Field(min_length=1)
    weights: tuple[float, ...]
    cases: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _weights_fit(self) -> "ScaleEnsemble":
        if any(not factor > 0 for factor in self.scales):
            raise ValueError(f"scales must be positive, not {self.scales}")
        if len(self.weights) != len(self.scales) or any(weight < 0 for weight in self.weights) or not sum(self.weights) > 0:
            raise ValueError(f"there must be one weight, not negative, for each of the scales {self.scales}, not {self.weights}")
        return self


@dataclass(frozen=True)
class Model:
    """Everything that prediction needs.

    Attributes:
        plan: of exactly one configuration with one network.
        networks: fold name -> network with its weights, in evaluation mode, on the CPU.
        ensemble: scales with learned weights, or None.
    """

    plan: Plan
    networks: dict[str, nn.Module]
    ensemble: ScaleEnsemble | None = None

    @property
    def configuration(self) -> ConfigurationPlan:
        """How images are prepared."""
        return next(iter(self.plan.configurations.values()))

    @property
    def network_plan(self) -> NetworkPlan:
        """Patch size, mirror axes, test scales."""
        return next(iter(self.configuration.networks.values()))


def load_model(
    folder: Path, folds: Sequence[int | str] | None = None, checkpoint: str = "final", network_class: str | None = None
) -> Model:
    """Read a model folder: `plan.json`, `fold_<name>/weights_<checkpoint>.safetensors`, and `scales.json` where it exists.

    Args:
        folder: of the model.
        folds: names such as 0 or "all"; None takes every fold that has weights.
        checkpoint: `final` or `best`.
        network_class: see `make_network`.

    Raises:
        InputError: the folder or what should be in it is missing or unusable; every fault is listed.
    """
    if not folder.is_dir():
        raise InputError(Fault(str(folder), "there is no such model folder", "Give the folder that holds plan.json and fold_0"))
    faults: list[Fault] = []
    with collecting(faults):
        weights = find_weights(folder, folds, checkpoint)
    with collecting(faults):
        plan = read_plan(folder / "plan.json")
    ensemble = None
    with collecting(faults):
        ensemble = ScaleEnsemble.read(folder / SCALES_FILE) if (folder / SCALES_FILE).is_file() else None
    raise_faults(faults)
    return Model(plan, _load_networks(Model(plan, {}).network_plan, weights, network_class), ensemble)


def load_models(
    folders: Sequence[Path],
    folds: Sequence[int | str] | None = None,
    checkpoint: str = "final",
    network_class: str | None = None,
) -> list[Model]:
    """Read the models of an ensemble. Arguments as of `load_model`.

    Raises:
        InputError: one cannot be used, or they differ in channels, labels or orientation; every fault is listed.
    """
    faults: list[Fault] = []
    models: list[Model] = []
    for folder in folders:
        with collecting(faults):
            models.append(load_model(folder, folds, checkpoint, network_class))
    raise_faults(faults)
    first = models[0].plan
    for folder, model in zip(folders, models, strict=True):
        for what in ("channels", "labels", "regions_class_order"):
            ours, theirs = getattr(model.plan.dataset, what), getattr(first.dataset, what)
            if ours != theirs:
                faults.append(Fault(str(folder), f"its {what} are {ours}, those of {folders[0]} {theirs}", _ALIKE))
        if model.plan.orientation != first.orientation:
            problem = f"it takes images {model.plan.orientation}, {folders[0]} {first.orientation}"
            faults.append(Fault(str(folder), problem, _ALIKE))
    raise_faults(faults)
    return models


_ALIKE = "Models of one ensemble must be trained for the same channels and labels"


def read_plan(path: Path) -> Plan:
    """The plan of a model.

    Raises:
        InputError: it cannot be read, or holds more than one network.
    """
    plan = Plan.read(path)
    counts = [len(configuration.networks) for configuration in plan.configurations.values()]
    if counts != [1]:
        problem = f"it plans {sum(counts)} networks in {len(counts)} configurations, and a trained model has one network"
        raise InputError(Fault(str(path), problem, "Give a model's own folder, such as models/3d_fullres_se"))
    return plan


def find_weights(folder: Path, folds: Sequence[int | str] | None, checkpoint: str) -> dict[str, Path]:
    """Fold name -> its weights file. Arguments and errors as of `load_model`."""
    if checkpoint not in CHECKPOINTS:
        raise InputError(Fault(f"checkpoint `{checkpoint}`", "there is no such kind", f"Choose one of {', '.join(CHECKPOINTS)}"))
    file = f"weights_{checkpoint}.safetensors"
    trained = {path.name.removeprefix("fold_"): path / file for path in list_folder(folder, "fold_*") if (path / file).is_file()}
    if folds is None:
        if not trained:
            raise InputError(
                Fault(str(folder), f"no fold_* in it holds {file}", "Train a fold first, or choose the other checkpoint")
            )
        return trained
    wanted = [str(fold) for fold in folds]
    found = ", ".join(trained) or "none"
    raise_faults(
        Fault(str(folder / f"fold_{fold}"), f"it holds no {file} (folds with one: {found})", "Train this fold or choose another")
        for fold in wanted
        if fold not in trained
    )
    return {fold: trained[fold] for fold in wanted}


def make_network(planned: NetworkPlan, network_class: str | None = None) -> nn.Module:
    """The planned network with fresh weights.

    Args:
        planned: the network.
        network_class: `package.module:Class` of a network that is not ours. It is imported, so its code runs: a plan that names it is
            not enough, as models come from others.

    Raises:
        InputError: the plan's network is of a class that is not allowed or cannot be imported.
    """
    if planned.network_class is None:
        return build_network(planned.network)
    if planned.network_class != network_class:
        problem = "the model's network is code of its author, and runs only where you name it"
        remedy = f"If you have this code and trust it, add --network-class {planned.network_class}"
        raise InputError(Fault(f"network class `{planned.network_class}`", problem, remedy))
    network: nn.Module = import_part(planned.network_class, "network class")(planned.network)
    return network


def _load_networks(network_plan: NetworkPlan, weights: dict[str, Path], network_class: str | None) -> dict[str, nn.Module]:
    faults: list[Fault] = []
    networks = {}
    for fold, path in weights.items():
        network = make_network(network_plan, network_class)
        with collecting(faults):
            load_weights(network, path)
        networks[fold] = network.eval()
    raise_faults(faults)
    return networks
