"""Make a plan from a fingerprint. The same fingerprint and options give the same plan, with a reason for every decision."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from configs.dataset import DatasetDescription
from configs.errors import times
from configs.fingerprint import Fingerprint
from configs.network import NetworkConfig, ScaleGroup
from configs.plan import PUBLISHED, ChannelNormalisation, ConfigurationPlan, NetworkPlan, Orientation, Plan, SizeRange
from planners.decision import Decision
from planners.options import PlanningOptions
from planners.rules.budget import FeatureBudget
from planners.rules.configurations import Resolution, choose_resolutions
from planners.rules.grid import check_spacing, choose_spacing, median_relative_size, median_shape, whole_voxels
from planners.rules.measured_budget import choose_measured_sampling
from planners.rules.mirroring import choose_mirror_axes
from planners.rules.networks.published import fitting_patch, networks_for, published_network
from planners.rules.networks.scale_group import check_width, choose_scale_group, widest_spread
from planners.rules.networks.se_network import features_reason, judge_depth, se_feature_values, se_features, se_network
from planners.rules.networks.skeleton import baseline_network
from planners.rules.nnunet_plans import plan_as_nnunet
from planners.rules.normalisation import choose_normalisation
from planners.rules.orientation import choose_orientation, patient_axes, turn_cases
from planners.rules.patch import Grid, Sampling, choose_sampling
from planners.rules.size_range import choose_scaling, choose_size_range
from planners.rules.topology import Topology


@dataclass(frozen=True)
class _Context:
    """Inputs of the planning of every configuration."""

    description: DatasetDescription
    fingerprint: Fingerprint
    options: PlanningOptions
    normalisation: Decision[tuple[ChannelNormalisation, ...]]
    orientation: Decision[Orientation]
    sizes: Decision[SizeRange]


def make_plan(description: DatasetDescription, fingerprint: Fingerprint, options: PlanningOptions | None = None) -> Plan:
    """Make all decisions that preprocessing, training and prediction need.

    Args:
        description: channels and labels of the dataset.
        fingerprint: measurements of the training cases.
        options: overrides of the rules by the user.

    Raises:
        InputError: an override does not suit the data or the memory; the message says why.
    """
    options = options or PlanningOptions()
    if options.nnunet_plans is not None:
        expected = choose_size_range(fingerprint.cases, options.scale_range)
        return plan_as_nnunet(options.nnunet_plans, description, expected, options.configurations)
    orientation = choose_orientation(fingerprint.cases)
    if options.orientation is not None:
        orientation = Decision[Orientation](options.orientation, "Images are turned to RAS, as requested.")
    fingerprint = turn_cases(fingerprint, orientation.value)
    cases = fingerprint.cases
    normalisation = choose_normalisation(
        description.channels, fingerprint.intensities, median_relative_size(cases), options.normalisation
    )
    sizes = choose_size_range(cases, options.scale_range)
    context = _Context(description, fingerprint, options, normalisation, orientation, sizes)
    spacing = choose_spacing(cases)
    if options.spacing is not None:
        spacing = Decision(options.spacing, f"Spacing {times(options.spacing)} mm, as requested.")
    median = median_shape(cases, spacing.value)
    if options.spacing is not None:
        check_spacing(spacing.value, median)
    full = Grid(spacing.value, median, len(cases))
    sample = partial(_sample_baseline, context)
    resolutions = choose_resolutions(full, options.size, options.patch_size, sample).select(options.configurations)
    networks = {
        name: networks_for(options.networks, one.grid.slice_axis, name, options.configurations is not None)
        for name, one in resolutions.items()
    }
    configurations = {
        name: _plan_configuration(context, resolution, spacing.reason, networks[name])
        for name, resolution in resolutions.items()
        if networks[name]
    }
    return Plan(dataset=description, orientation=orientation.value, sizes=sizes.value, configurations=configurations)


def _plan_configuration(
    context: _Context, resolution: Resolution, spacing_reason: str, networks: Sequence[str]
) -> ConfigurationPlan:
    grid = resolution.grid
    planners = {"se": _plan_se, "baseline": _plan_baseline} | {name: partial(_plan_published, name=name) for name in PUBLISHED}
    return ConfigurationPlan(
        spacing=grid.spacing,
        median_shape=whole_voxels(grid.median),
        normalisation=context.normalisation.value,
        slice_axis=grid.slice_axis,
        previous=resolution.previous,
        cases_of=resolution.cases_of,
        networks={name: planners[name](context, resolution) for name in networks},
        reasons={
            "orientation": context.orientation.reason,
            "spacing": spacing_reason,
            "median_shape": f"The median case has {times(grid.median)} voxels at this spacing, after cropping to nonzero and with all "
            "cases in the same orientation.",
            "normalisation": context.normalisation.reason,
            "sizes": context.sizes.reason,
            **resolution.reasons,
        },
    )


def _plan_baseline(context: _Context, resolution: Resolution) -> NetworkPlan:
    sampling = _sample_baseline(context, resolution)
    network = baseline_network(context.description, resolution.grid.spacing, sampling.topology, resolution.skeleton)
    reasons = {"features": resolution.skeleton.features_reason(network.features), **_outputs_reason(context.description)}
    return _network_plan(context, resolution, sampling, network, reasons)


def _plan_published(context: _Context, resolution: Resolution, name: str) -> NetworkPlan:
    sampling = _sample_baseline(context, resolution)
    network = published_network(name, context.description, resolution.grid.spacing)
    patch = fitting_patch(sampling.patch_size, network, resolution.patch_size is not None)
    stages = f"{len(network.features)} stages, each axis halved from one to the next, as published."
    sampling = replace(
        sampling, patch_size=patch.value, reasons={**sampling.reasons, "patch_size": patch.reason, "stages": stages}
    )
    features = f"Features {times(network.features)}, as published (Wimmer et al. 2023)"
    return _network_plan(context, resolution, sampling, network, {"features": f"{features}; nothing of it is planned."})


def _outputs_reason(description: DatasetDescription) -> dict[str, str]:
    """Return the reason why batches may differ from nnU-Net's, which counts the entries of `labels` instead of the outputs."""
    outputs, entries = description.output_channels, len(description.labels)
    if outputs == entries:
        return {}
    why = f"nnU-Net counts all {entries} entries of `labels` and may therefore plan slightly smaller batches"
    return {"outputs": f"The memory estimate uses the network's {outputs} outputs; {why}."}


def _plan_se(context: _Context, resolution: Resolution) -> NetworkPlan:
    grid, skeleton, description = resolution.grid, resolution.skeleton, context.description
    group = _choose_group(context, resolution)

    def describe(topology: Topology) -> NetworkConfig:
        return se_network(description, grid.spacing, topology, skeleton, group.value)

    def values(topology: Topology) -> int:
        return se_feature_values(skeleton, topology, group.value, description.output_channels)

    sampling = choose_measured_sampling(grid, describe, values, _memory(context, resolution), resolution.patch_size)
    network = describe(sampling.topology)
    reasons = {
        "scale_group": group.reason,
        "features": features_reason(skeleton, sampling.topology, group.value),
        "depth": judge_depth(network, sampling.patch_size).reason,
    }
    return _network_plan(context, resolution, sampling, network, reasons)


def _choose_group(context: _Context, resolution: Resolution) -> Decision[ScaleGroup]:
    """Choose the scale group for the patch of the baseline."""
    options, grid = context.options, resolution.grid
    topology = grid.topology(resolution.patch_size) if resolution.patch_size else _sample_baseline(context, resolution).topology

    def channels(group: ScaleGroup) -> int:
        return se_features(resolution.skeleton, topology, group)[0]

    spread = widest_spread(context.fingerprint.size_spread)
    group = choose_scale_group(spread, grid.spacing, topology.kernels[0], channels, options.num_scales, options.scale_step)
    check_width(group.value, grid.spacing, topology.patch_size, topology.kernels[0])
    return group


def _sample_baseline(context: _Context, resolution: Resolution) -> Sampling:
    budget = FeatureBudget(resolution.skeleton, context.description.output_channels, _memory(context, resolution))
    return choose_sampling(resolution.grid, budget, resolution.patch_size)


def _memory(context: _Context, resolution: Resolution) -> float:
    return context.options.gpu_memory or resolution.skeleton.reference.memory


def _network_plan(
    context: _Context, resolution: Resolution, sampling: Sampling, network: NetworkConfig, reasons: dict[str, str]
) -> NetworkPlan:
    axes = patient_axes(context.orientation.value, context.fingerprint.cases)
    mirror = choose_mirror_axes(context.description.foreground, axes)
    scaling, probability = choose_scaling(context.sizes.value, context.options.scale_range is not None)
    if resolution.previous:
        inputs = network.input_channels + context.description.cascade_channels
        network = network.model_copy(update={"input_channels": inputs})
    return NetworkPlan(
        network=network,
        patch_size=sampling.patch_size,
        batch_size=sampling.batch_size,
        batch_dice=resolution.batch_dice.value,
        mirror_axes=mirror.value,
        scaling_range=scaling.value,
        scaling_probability=probability,
        reasons={
            **sampling.reasons,
            **reasons,
            "batch_dice": resolution.batch_dice.reason,
            "mirror_axes": mirror.reason,
            "scaling_range": scaling.reason,
        },
    )
