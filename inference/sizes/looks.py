"""Look at an image at one size: what a network decides there, and what it expects of its own decision.

If the probabilities p of a label are calibrated, its decision d has the expected overlap sum(p d), and so about the expected Dice

    2 sum(p d) / (sum(p) + sum(d)),     sums over voxels,

which is 0 where no voxel gets the label. Networks are too sure away from the sizes of training; `inference.sizes.calibration` corrects it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from configs.plan import NetworkPlan
from inference.engine.capacity import Capacity
from inference.engine.ensemble import Blending, blend, make_members
from inference.engine.sums import Numbers, decide, diameters_of, dice_of, overlap_of, sums_of
from inference.options import Variants


@dataclass(frozen=True)
class Look:
    """What one network decides on an image at one size."""

    factor: float  # factor of the image's size
    decision: Tensor  # class indices (Z, Y, X) int16, or regions (R, Z, Y, X) bool, on the image's own grid
    sums: Tensor  # sum(p d), sum(p) and sum(d) over voxels (3, labels) float64

    @property
    def expected(self) -> Numbers:
        """Dice that the network expects of each label."""
        return dice_of(self.sums)

    def diameters(self, voxel_volume: float) -> Numbers:
        """Return for each label the diameter in mm of a ball of the found volume at the size that the network saw; 0 where none was found.

        `voxel_volume` is that of the image's grid in mm^3.
        """
        return diameters_of(self.sums, voxel_volume, self.factor)


def look(
    network: nn.Module,
    image: Tensor,
    network_plan: NetworkPlan,
    factor: float,
    how: Blending,
    capacity: Capacity,
    mirror: bool = False,
) -> Look:
    """Segment the image (C, Z, Y, X) float32, normalised, at the planned spacing and on the capacity's device of volumes, at one size.

    Looks are taken without reflections unless `mirror` asks for them, since a look shall be cheap.
    """
    classes = network_plan.network.output_channels
    (member,) = make_members([network], image, network_plan, Variants(mirror=mirror, scales=(factor,)))
    z, y, x = image.shape[1:]
    shape = (classes, z, y, x) if how.regions else (z, y, x)
    decision = torch.empty(shape, dtype=torch.bool if how.regions else torch.int16, device=image.device)
    sums = torch.zeros((3, classes - (not how.regions)), dtype=torch.float64, device=image.device)
    for brick in blend([member], (z, y, x), classes, how, capacity):
        sums += sums_of(brick.probabilities, how.regions)
        decision[(..., *brick.place)] = decide(brick.probabilities, how.regions)
    return Look(factor, decision, sums)


def agreement(one: Look, other: Look) -> Numbers:
    """Return for each label the Dice between two decisions on the same grid; 0 where only one of them or none found it."""
    other_decision = other.decision.to(one.decision.device)  # memory may have run out between the two
    return overlap_of(one.decision, other_decision, one.sums.shape[1])
