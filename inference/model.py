"""A trained model: a folder with the plan and the weights of one or more folds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from configs.errors import Fault, InputError, collecting, raise_faults
from configs.plan import ConfigurationPlan, NetworkPlan, Plan
from se_unet.builder import build_network
from se_unet.weights import load_weights

CHECKPOINTS = ("final", "best")


@dataclass(frozen=True)
class Model:
    """Everything that prediction needs.

    Attributes:
        plan: of exactly one configuration with one network.
        networks: fold name -> network with its weights, in evaluation mode, on the CPU.
    """

    plan: Plan
    networks: dict[str, nn.Module]

    @property
    def configuration(self) -> ConfigurationPlan:
        """How images are prepared."""
        return next(iter(self.plan.configurations.values()))

    @property
    def network_plan(self) -> NetworkPlan:
        """Patch size, mirror axes, test scales."""
        return next(iter(self.configuration.networks.values()))


def load_model(folder: Path, folds: Sequence[int | str] | None = None, checkpoint: str = "final") -> Model:
    """Read a model folder: `plan.json` and `fold_<name>/weights_<checkpoint>.safetensors`.

    Args:
        folder: of the model.
        folds: names such as 0 or "all"; None takes every fold that has weights.
        checkpoint: `final` or `best`.

    Raises:
        InputError: the folder or what should be in it is missing or unusable; every fault is listed.
    """
    if not folder.is_dir():
        raise InputError(Fault(str(folder), "there is no such model folder", "Give the folder that holds plan.json and fold_0"))
    faults: list[Fault] = []
    with collecting(faults):
        weights = _find_weights(folder, folds, checkpoint)
    with collecting(faults):
        plan = _read_plan(folder / "plan.json")
    raise_faults(faults)
    return Model(plan, _load_networks(Model(plan, {}).network_plan, weights))


def _read_plan(path: Path) -> Plan:
    plan = Plan.read(path)
    counts = [len(configuration.networks) for configuration in plan.configurations.values()]
    if counts != [1]:
        problem = f"it plans {sum(counts)} networks in {len(counts)} configurations, and a trained model has one network"
        raise InputError(Fault(str(path), problem, "Give a model's own folder, such as models/3d_fullres_se"))
    return plan


def _find_weights(folder: Path, folds: Sequence[int | str] | None, checkpoint: str) -> dict[str, Path]:
    if checkpoint not in CHECKPOINTS:
        raise InputError(Fault(f"checkpoint `{checkpoint}`", "there is no such kind", f"Choose one of {', '.join(CHECKPOINTS)}"))
    file = f"weights_{checkpoint}.safetensors"
    trained = {path.parent.name.removeprefix("fold_"): path for path in sorted(folder.glob(f"fold_*/{file}"))}
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


def _load_networks(network_plan: NetworkPlan, weights: dict[str, Path]) -> dict[str, nn.Module]:
    faults: list[Fault] = []
    networks = {}
    for fold, path in weights.items():
        network = build_network(network_plan.network)
        with collecting(faults):
            load_weights(network, path)
        networks[fold] = network.eval()
    raise_faults(faults)
    return networks
