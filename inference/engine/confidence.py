"""Scales weighed for each image by what the network expects of its own answer.

Where structures are much smaller or larger than in training, the image enlarged or shrunk by the right factor is segmented as well as
ever, and the mean over factors is not: most of its members are wrong. Which factor is right, the network tells itself. If its
probabilities p of a label are right, its decision d has the expected overlap sum(p d), and so about the expected Dice

    2 sum(p d) / (sum(p) + sum(d)),     sums over voxels,

0 where d is nowhere that label. Its mean over the labels, background left out, says how much to expect of a factor: one that loses a label
pays for it, and a label that an image does not have changes nothing. The weights are `exp(mean / TEMPERATURE)`, brought to a sum of 1,
without those that hardly count.
"""

from collections.abc import Sequence
from math import exp

import torch
from torch import Tensor, nn

from configs.plan import NetworkPlan
from inference.engine.capacity import Capacity
from inference.engine.ensemble import Blending, Member, blend, make_members
from inference.options import Variants

TEMPERATURE = 0.05  # of the expected Dice: a factor that expects 0.1 less than the best has a seventh of its weight
LEAST = 0.02  # smaller weights are none, and their members need not be computed


def confident_weights(
    network: nn.Module, image: Tensor, network_plan: NetworkPlan, scales: Sequence[float], how: Blending, capacity: Capacity
) -> tuple[float, ...]:
    """One weight for each scale, adding up to 1.

    Each scale is looked at once, without reflections.

    Args:
        network: in evaluation mode, on the capacity's device.
        image: (C, Z, Y, X) float32 at the planned spacing, normalised, on that device.
        network_plan: gives patch size and classes.
        scales: factors of the image's size.
        how: tiles are brought together.
        capacity: of the device.
    """
    z, y, x = image.shape[1:]
    members = [make_members([network], image, network_plan, Variants(mirror=False, scales=(factor,)))[0] for factor in scales]
    classes = network_plan.network.output_channels
    return weights_of([_swept(member, (z, y, x), classes, how, capacity) for member in members])


def weights_of(expected: Sequence[float]) -> tuple[float, ...]:
    """Weights from the expected Dice of each scale."""
    likely = [exp((value - max(expected)) / TEMPERATURE) for value in expected]
    kept = [value if value >= LEAST * sum(likely) else 0.0 for value in likely]
    return tuple(value / sum(kept) for value in kept)


def expected_dice(probabilities: Tensor, regions: bool) -> float:
    """Of the decision that follows from probabilities (K, Z, Y, X), if they are right: mean over the labels."""
    return _mean_dice(_sums(probabilities, regions))


def _swept(member: Member, shape: tuple[int, int, int], classes: int, how: Blending, capacity: Capacity) -> float:
    """The expected Dice of one member, brick by brick."""
    sums = [_sums(brick.probabilities, how.regions) for brick in blend([member], shape, classes, how, capacity)]
    return _mean_dice(torch.stack(sums).sum(0))


def _sums(probabilities: Tensor, regions: bool) -> Tensor:
    """(3, labels) float64: sum(p d), sum(p) and sum(d) over voxels."""
    if regions:
        labels, decision = probabilities, probabilities > 0.5
    else:
        best = probabilities.max(0, keepdim=True).indices
        classes = torch.arange(1, len(probabilities), device=probabilities.device).reshape(-1, 1, 1, 1)
        labels, decision = probabilities[1:], best == classes
    return torch.stack([part.sum((1, 2, 3), dtype=torch.float64) for part in (labels * decision, labels, decision)])


def _mean_dice(sums: Tensor) -> float:
    both, probable, decided = sums
    return float((2 * both / (probable + decided).clamp_min(1e-12) * (decided > 0)).mean())
