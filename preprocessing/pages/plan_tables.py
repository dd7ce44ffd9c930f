"""Rows of a plan's tables."""

from configs.errors import times
from configs.plan import ConfigurationPlan, NetworkPlan


def sentences(reasons: dict[str, str]) -> list[tuple[str, str]]:
    """Return pairs of a decision in words and its reason."""
    return [(decision.replace("_", " ").capitalize(), sentence) for decision, sentence in reasons.items()]


def stage_rows(configuration: ConfigurationPlan, planned: NetworkPlan) -> list[dict[str, str]]:
    """Return one row for each stage of a network, finest first."""
    network = planned.network
    grid, spacing = list(planned.patch_size), list(configuration.spacing)
    rows = []
    for index, stride in enumerate(network.strides):
        grid = [size // step for size, step in zip(grid, stride, strict=True)]
        spacing = [length * step for length, step in zip(spacing, stride, strict=True)]
        rows.append(
            {
                "stage": str(index + 1),
                "features": str(network.features[index]),
                "kernel": times(network.kernels[index]),
                "stride": times(stride),
                "blocks": str(network.encoder_blocks[index]),
                "grid": times(grid),
                "spacing": times(spacing),
            }
        )
    return rows
