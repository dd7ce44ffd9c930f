"""Take nnU-Net's plans file as the plan: its grids, patches and networks, to be trained here on images as nnU-Net prepares them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from configs.dataset import DatasetDescription
from configs.errors import Fault, InputError, raise_faults
from configs.files import read_json
from configs.plan import ConfigurationPlan, Plan, SizeRange
from planners.decision import Decision
from planners.rules.mirroring import choose_mirror_axes
from planners.rules.orientation import patient_axes
from se_unet.nnunet.architecture import network_of, settings_of
from se_unet.nnunet.plan import configuration_of, orientation_of, understood

_SAME_CASES = {"3d_cascade_fullres": "3d_fullres"}  # configurations that use the cases of another


def plan_as_nnunet(
    path: Path, description: DatasetDescription, sizes: Decision[SizeRange], wanted: tuple[str, ...] | None = None
) -> Plan:
    """Return a plan with the configurations of nnU-Net's plans file, each with one network, `nnunet`.

    Outputs follow the labels of the dataset. Mirroring leaves out axes along which labels differ only in their side. `path` leads
    to a file such as `nnUNetPlans.json`; `wanted` names the configurations to take, None takes all.

    Raises:
        InputError: the file cannot be read, is not nnU-Net's, states something that this software does not do, or lacks a configuration.
    """
    plans = read_json(path)
    if not isinstance(plans, dict) or not isinstance(plans.get("configurations"), dict):
        raise InputError(Fault(str(path), "not a plans file of nnU-Net 2", "Give a file such as nnUNetPlans.json"))
    with understood(str(path)):
        names = [name for name in plans["configurations"] if "patch_size" in settings_of(plans, name)]
        raise_faults(_missing(wanted or (), names))
        orientation = orientation_of(plans)
        mirror = choose_mirror_axes(description.foreground, patient_axes(orientation, {}))
        made = {name: _configuration(plans, name, description, mirror, sizes.reason) for name in wanted or names}
    return Plan(dataset=description, orientation=orientation, sizes=sizes.value, configurations=made)


def _missing(wanted: tuple[str, ...], names: list[str]) -> Iterator[Fault]:
    for name in wanted:
        if name not in names:
            yield Fault(f"--configurations {name}", "the plans file has no such configuration", f"Choose from {', '.join(names)}")


def _configuration(
    plans: Mapping[str, Any], name: str, description: DatasetDescription, mirror: Decision[tuple[int, ...]], sizes: str
) -> ConfigurationPlan:
    settings = settings_of(plans, name)
    flat, previous = len(settings["patch_size"]) == 2, settings.get("previous_stage")
    inputs = len(description.channels) + (description.cascade_channels if previous else 0)
    network = network_of(settings, inputs, description.output_channels)
    axes = [axis - flat for axis in mirror.value if axis >= flat]
    origin = f"The network of nnU-Net's plan. {mirror.reason}"
    made = configuration_of(plans, name, description.channels, network, axes, origin)
    shared = _SAME_CASES.get(name)
    changed = {"cases_of": shared if shared in plans["configurations"] else None, "reasons": {**made.reasons, "sizes": sizes}}
    return made.model_copy(update=changed)
