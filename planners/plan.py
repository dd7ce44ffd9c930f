"""From a fingerprint to a plan. Pure: the same fingerprint and options give the same plan, with a reason for every decision."""

from dataclasses import dataclass
from functools import partial

from configs.dataset import DatasetDescription
from configs.fingerprint import Fingerprint, Spacing
from configs.network import NetworkConfig
from configs.plan import ConfigurationPlan, NetworkPlan, Plan
from planners.baseline_network import baseline_features, baseline_network
from planners.baseline_network import features_reason as baseline_features_reason
from planners.decision import Decision, times
from planners.ensembling import choose_test_scales
from planners.grid import choose_spacing, median_relative_size, median_shape, whole_voxels
from planners.mirroring import choose_mirror_axes
from planners.normalisation import choose_normalisation
from planners.options import PlanningOptions
from planners.patch import Budget, Extent, Features, Sampling, choose_sampling
from planners.scale_group import choose_scale_group, widest_spread
from planners.se_network import features_reason as se_features_reason
from planners.se_network import se_feature_maps, se_network
from planners.topology import choose_topology


@dataclass(frozen=True)
class _Grid:
    """What the networks of a configuration are planned from."""

    description: DatasetDescription
    fingerprint: Fingerprint
    options: PlanningOptions
    spacing: Spacing
    median: Extent


def make_plan(description: DatasetDescription, fingerprint: Fingerprint, options: PlanningOptions | None = None) -> Plan:
    """Decide everything that preprocessing, training and prediction need.

    Args:
        description: channels and labels.
        fingerprint: of the training cases.
        options: the user's overrides.

    Raises:
        InputError: an override cannot work; the reason is given.
    """
    options = options or PlanningOptions()
    configurations = {"3d_fullres": _plan_full_resolution(description, fingerprint, options)}
    return Plan(dataset=description, orientation="canonical", configurations=configurations)


def _plan_full_resolution(
    description: DatasetDescription, fingerprint: Fingerprint, options: PlanningOptions
) -> ConfigurationPlan:
    spacing = choose_spacing(fingerprint.cases)
    if options.spacing is not None:
        spacing = Decision(options.spacing, f"Spacing {times(options.spacing)} mm as asked for.")
    median = median_shape(fingerprint.cases, spacing.value)
    normalisation = choose_normalisation(description.channels, fingerprint.intensities, median_relative_size(fingerprint.cases))
    grid = _Grid(description, fingerprint, options, spacing.value, median)
    planners = {"se": _plan_se, "baseline": _plan_baseline}
    return ConfigurationPlan(
        spacing=spacing.value,
        median_shape=whole_voxels(median),
        normalisation=normalisation.value,
        networks={name: planners[name](grid) for name in options.networks},
        reasons={
            "spacing": spacing.reason,
            "median_shape": f"The median case has {times(median)} voxels at this spacing after the crop to nonzero.",
            "normalisation": normalisation.reason,
        },
    )


def _plan_baseline(grid: _Grid) -> NetworkPlan:
    sampling = _choose_sampling(grid, baseline_features)
    network = baseline_network(grid.description, grid.spacing, sampling.topology)
    return _network_plan(grid, sampling, network, {"features": baseline_features_reason(network.features)})


def _plan_se(grid: _Grid) -> NetworkPlan:
    finest_kernel = choose_topology(grid.spacing, grid.options.patch_size or grid.median).kernels[0]
    options = grid.options
    group = choose_scale_group(
        widest_spread(grid.fingerprint.size_spread), grid.spacing, finest_kernel, options.num_scales, options.scale_step
    )
    scales = group.value.number
    sampling = _choose_sampling(grid, partial(se_feature_maps, scales=scales))
    network = se_network(grid.description, grid.spacing, sampling.topology, group.value)
    reasons = {"scale_group": group.reason, "features": se_features_reason(len(network.features), scales)}
    return _network_plan(grid, sampling, network, reasons)


def _choose_sampling(grid: _Grid, features: Features) -> Sampling:
    budget = Budget(features, grid.description.output_channels, grid.options.gpu_memory, len(grid.fingerprint.cases))
    return choose_sampling(grid.spacing, grid.median, budget, grid.options.patch_size)


def _network_plan(grid: _Grid, sampling: Sampling, network: NetworkConfig, reasons: dict[str, str]) -> NetworkPlan:
    mirror = choose_mirror_axes(grid.description.foreground, canonical=True)
    test_scales = choose_test_scales(widest_spread(grid.fingerprint.size_spread))
    return NetworkPlan(
        network=network,
        patch_size=sampling.patch_size,
        batch_size=sampling.batch_size,
        mirror_axes=mirror.value,
        test_scales=test_scales.value,
        reasons={**sampling.reasons, **reasons, "mirror_axes": mirror.reason, "test_scales": test_scales.reason},
    )
