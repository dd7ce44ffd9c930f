"""Plan the networks of Wimmer et al. 2023 as they were published, on the patch of the baseline."""

from configs.dataset import DatasetDescription
from configs.errors import Fault, InputError, times
from configs.fingerprint import Shape, Spacing
from configs.network import NetworkConfig
from configs.plan import PUBLISHED
from planners.decision import Decision


def published_network(name: str, description: DatasetDescription, spacing: Spacing) -> NetworkConfig:
    """Return the published network for a dataset's channels and outputs."""
    from se_unet.published import descriptions  # torch takes seconds to load

    make = {"wimmer2023": descriptions.wimmer2023, "wimmer2023_baseline": descriptions.wimmer2023_baseline}[name]
    return make(len(description.channels), description.output_channels, spacing=spacing)


def fitting_patch(patch: Shape, network: NetworkConfig, requested: bool) -> Decision[Shape]:
    """Return the baseline's patch, enlarged where the published strides do not divide it.

    Raises:
        InputError: a requested patch does not fit.
    """
    z, y, x = (-(-size // stride) * stride for size, stride in zip(patch, network.total_stride, strict=True))
    if (z, y, x) == patch:
        return Decision(patch, f"Patch {times(patch)}, that of the baseline.")
    if requested:
        problem = f"the published strides {times(network.total_stride)} do not divide it"
        raise InputError(Fault(f"--patch-size {times(patch)}", problem, f"Give {times((z, y, x))}, or leave the option out"))
    return Decision(
        (z, y, x), f"Patch {times((z, y, x))}: that of the baseline, enlarged to multiples of {times(network.total_stride)}."
    )


def networks_for(names: tuple[str, ...], slice_axis: int | None, configuration: str, requested: bool) -> tuple[str, ...]:
    """Return the networks to plan for a configuration: published ones are for volumes, and are left out for single slices.

    Raises:
        InputError: the configuration is `requested`, and no network is left for it.
    """
    kept = tuple(name for name in names if slice_axis is None or name not in PUBLISHED)
    if requested and not kept:
        problem = f"published for volumes, not for the slices of {configuration}"
        raise InputError(Fault(f"--network {' '.join(names)}", problem, "Name another of --configurations, such as 3d_fullres"))
    return kept
