"""Test-time ensembling: one weighted mean of class probabilities over scales and networks, kept as a running sum."""

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from configs.plan import NetworkPlan
from configs.progress import Progress
from inference.mirroring import Mirrored
from inference.scaling import resample_image, resample_probabilities, scaled_shape
from inference.sliding_window import predict_volume


def predict_ensemble(
    networks: Sequence[nn.Module],
    image: Tensor,
    network_plan: NetworkPlan,
    *,
    mirror: bool = True,
    scales: Sequence[float] | None = None,
    weights: Sequence[float] | None = None,
    regions: bool = False,
    step: float = 0.5,
    tile_batch: int | None = None,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Class probabilities of a volume, averaged over networks and scale factors.

    For each factor t the image is resampled to t times its size (with a low-pass when shrinking), predicted, and the mean of the
    networks' probabilities is resampled back. Mirrored scores are averaged as logits inside each tile; networks and scales are
    averaged as probabilities. Only the running sum is kept, never one volume per member.

    Args:
        networks: members of one architecture, such as the folds; each (B, C, *patch) -> (B, K, *patch) logits.
        image: (C, Z, Y, X) float32 at the planned spacing, normalised.
        network_plan: gives patch size, mirror axes and test scales. Along axes where the patch is one voxel thick, nothing is
            scaled or mirrored.
        mirror: average over reflections along the plan's mirror axes.
        scales: factors; None takes the plan's, (1.0,) is none.
        weights: of the factors, not negative; None weighs them alike.
        regions: outputs overlap: sigmoid instead of softmax.
        step, tile_batch, device, progress: see `predict_volume`.

    Returns:
        (K, Z, Y, X) float32 on `device`.

    Raises:
        ValueError: no network, no scale, or weights that do not fit the scales.
    """
    factors = tuple(network_plan.test_scales if scales is None else scales)
    shares = _shares(factors, weights)
    if not networks:
        raise ValueError("there must be at least one network")
    axes = [axis for axis, size in enumerate(network_plan.patch_size) if size > 1]
    mirrored = [axis for axis in network_plan.mirror_axes if mirror and axis in axes]
    members = [Mirrored(network, mirrored) for network in networks] if mirrored else list(networks)
    score = partial(
        predict_volume, patch_size=network_plan.patch_size, step=step, tile_batch=tile_batch, device=device, progress=progress
    )
    shape = scaled_shape(image.shape[1:], 1.0)
    total: Tensor | None = None
    for factor, share in zip(factors, shares, strict=True):
        resized = resample_image(image, scaled_shape(shape, factor, axes))
        titles = [f"Tiles at scale {factor:g}, network {index} of {len(members)}" for index in range(1, len(members) + 1)]
        scored = (score(member, resized, title=title) for member, title in zip(members, titles, strict=True))
        mean = _mean((probabilities_of(logits, regions) for logits in scored), len(members))
        part = resample_probabilities(mean, shape).mul_(share)
        total = part if total is None else total.add_(part)
    if total is None:
        raise ValueError("there must be at least one scale")
    return total


def probabilities_of(logits: Tensor, regions: bool) -> Tensor:
    """Logits (K, Z, Y, X) to probabilities: softmax over classes, or sigmoids of overlapping regions."""
    return torch.sigmoid(logits) if regions else torch.softmax(logits, 0)


def _mean(volumes: Iterator[Tensor], count: int) -> Tensor:
    """Mean of `count` volumes, of which only the sum is kept."""
    total = next(volumes)
    for volume in volumes:
        total.add_(volume)
    return total.div_(count)


def _shares(factors: Sequence[float], weights: Sequence[float] | None) -> list[float]:
    """Weights of the scales, brought to a sum of 1."""
    given = [1.0] * len(factors) if weights is None else list(weights)
    if len(given) != len(factors) or any(weight < 0 for weight in given) or not sum(given) > 0:
        raise ValueError(f"there must be one weight, not negative, for each of the scales {tuple(factors)}, not {given}")
    return [weight / sum(given) for weight in given]
