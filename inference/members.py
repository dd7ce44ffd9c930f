"""The members of an ensemble: every network of every model at every scale, each with its way to the target grid."""

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from configs.plan import NetworkPlan
from configs.progress import Progress
from inference.capacity import Capacity
from inference.ensemble import Blending, Matrices, Member, blend
from inference.scaling import ScaledImage, scaled_shape
from inference.sliding_window import device_of, evaluating
from inference.variants import Variants
from se_unet.separable import spline_matrix


def make_members(
    networks: Sequence[nn.Module],
    image: Tensor,
    network_plan: NetworkPlan,
    variants: Variants | None = None,
    onwards: Matrices = (None, None, None),
) -> list[Member]:
    """One member for each network and scale factor.

    For each factor t the image is resampled to t times its size, with a low-pass when shrinking; what the network says of it is
    resampled back linearly.

    Args:
        networks: of one architecture, such as the folds.
        image: (C, Z, Y, X) float32 at the planned spacing, normalised.
        network_plan: gives patch size, mirror axes and test scales. Along axes where the patch is one voxel thick, nothing is
            scaled or mirrored.
        variants: None takes the plan's test scales and its reflections.
        onwards: from the image's grid to the target's, one matrix for each axis; None where it keeps its length.

    Raises:
        ValueError: no network.
    """
    variants = variants or Variants(scales=network_plan.test_scales)
    if not networks:
        raise ValueError("there must be at least one network")
    axes = [axis for axis, size in enumerate(network_plan.patch_size) if size > 1]
    mirrored = tuple(axis for axis in network_plan.mirror_axes if variants.mirror and axis in axes)
    shape = scaled_shape(image.shape[1:], 1.0)
    members = []
    for factor, share in zip(variants.scales, variants.shares, strict=True):
        if share == 0:
            continue
        resized = scaled_shape(shape, factor, axes)
        scaled = ScaledImage(image, resized)
        z, y, x = (_chain(before, after, on) for before, after, on in zip(resized, shape, onwards, strict=True))
        members += [
            Member(network, scaled, network_plan.patch_size, mirrored, (z, y, x), share / len(networks)) for network in networks
        ]
    return members


def predict_ensemble(
    networks: Sequence[nn.Module],
    image: Tensor,
    network_plan: NetworkPlan,
    variants: Variants | None = None,
    *,
    how: Blending | None = None,
    tile_batch: int | None = None,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Class probabilities on an image's own grid, all of them in memory.

    Args:
        networks, image, network_plan, variants: see `make_members`.
        how: networks and scales are averaged; None takes the defaults.
        tile_batch: tiles per forward pass; None chooses by device.
        device: of the computation and the result; None takes the first network's.
        progress: shows the tiles done.

    Returns:
        (K, Z, Y, X) float32 on `device`.

    Raises:
        ValueError: see `make_members`.
    """
    members = make_members(networks, image, network_plan, variants)
    capacity = Capacity.of(torch.device(device) if device is not None else device_of(networks[0]), tile_batch)
    shape, classes = scaled_shape(image.shape[1:], 1.0), network_plan.network.output_channels
    mean = torch.empty((classes, *shape), device=capacity.device)
    with ExitStack() as stack:
        for network in networks:
            stack.enter_context(evaluating(network))
        for brick in blend(members, shape, classes, how or Blending(), capacity, progress):
            mean[(slice(None), *brick.place)] = brick.probabilities
    return mean


def _chain(before: int, after: int, onwards: Tensor | None) -> Tensor | None:
    """Linear interpolation from `before` to `after` voxels, then `onwards`, as one matrix."""
    if before == after:
        return onwards
    back = spline_matrix(before, after, 1)
    return (back if onwards is None else onwards.to(back) @ back).float()
