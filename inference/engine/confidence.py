"""Weight the scales of each image by the Dice that the network expects of its own segmentation.

When structures are much smaller or larger than in training, segmenting the image resized by the right factor works as well as ever,
but the mean over factors does not, because most of them are wrong. The network itself tells which factor is right. If its
probabilities p of a label are calibrated, its decision d has the expected overlap sum(p d), and so about the expected Dice

    2 sum(p d) / (sum(p) + sum(d)),     sums over voxels,

which is 0 if no voxel gets the label. The mean over the foreground labels is the expected Dice of a factor: a factor that loses a
label scores lower, and a label that is absent from the image changes nothing. The weights are `exp(mean / TEMPERATURE)`, normalised to
sum to 1, without negligible ones.
"""

from collections.abc import Sequence
from math import exp

import torch
from torch import Tensor, nn

from configs.plan import NetworkPlan
from inference.engine.capacity import Capacity
from inference.engine.ensemble import Blending, Member, blend, make_members
from inference.options import Variants

TEMPERATURE = 0.05  # of the expected Dice: 0.1 less than the best gives a seventh of its weight
LEAST = 0.02  # smaller weights become 0, which saves computing their members


def confident_weights(
    network: nn.Module, image: Tensor, network_plan: NetworkPlan, scales: Sequence[float], how: Blending, capacity: Capacity
) -> tuple[float, ...]:
    """Return one weight per scale, summing to 1, from one prediction at each scale without mirroring.

    The image (C, Z, Y, X) float32 is normalised and at the planned spacing; it and the network are on the capacity's device.
    """
    z, y, x = image.shape[1:]
    members = [make_members([network], image, network_plan, Variants(mirror=False, scales=(factor,)))[0] for factor in scales]
    classes = network_plan.network.output_channels
    return weights_of([_expected_dice_of(member, (z, y, x), classes, how, capacity) for member in members])


def weights_of(expected: Sequence[float]) -> tuple[float, ...]:
    """Return the weights for the expected Dice of each scale."""
    likely = [exp((value - max(expected)) / TEMPERATURE) for value in expected]
    kept = [value if value >= LEAST * sum(likely) else 0.0 for value in likely]
    return tuple(value / sum(kept) for value in kept)


def expected_dice(probabilities: Tensor, regions: bool) -> float:
    """Return the expected Dice of the decision on probabilities (K, Z, Y, X), if these are calibrated: mean over the labels."""
    return _mean_dice(_sums(probabilities, regions))


def _expected_dice_of(member: Member, shape: tuple[int, int, int], classes: int, how: Blending, capacity: Capacity) -> float:
    """Return the expected Dice of one member, summed brick by brick."""
    sums = [_sums(brick.probabilities, how.regions) for brick in blend([member], shape, classes, how, capacity)]
    return _mean_dice(torch.stack(sums).sum(0))


def _sums(probabilities: Tensor, regions: bool) -> Tensor:
    """Return sum(p d), sum(p) and sum(d) over voxels, (3, labels) float64."""
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
