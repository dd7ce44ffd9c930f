"""Look at an image at one size: what a network decides there, and what it expects of its own decision.

If the probabilities p of a label are calibrated, its decision d has the expected overlap sum(p d), and so about the expected Dice

    2 sum(p d) / (sum(p) + sum(d)),     sums over voxels,

which is 0 where no voxel gets the label. Networks are too sure away from the sizes of training; `inference.sizes.calibration` corrects it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from configs.fingerprint import Shape
from configs.plan import NetworkPlan
from inference.engine.capacity import Capacity
from inference.engine.ensemble import Blending, blend, make_members
from inference.engine.sums import Numbers, decide, diameters_of, dice_of, overlap_of, sums_of
from inference.options import Variants
from preprocessing.geometry.cropping import nonzero_box

ImagePart = tuple[slice, slice, slice]  # a box of voxels (Z, Y, X)
WHOLE: ImagePart = (slice(None), slice(None), slice(None))


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
    place: ImagePart = WHOLE,
) -> Look:
    """Segment the image (C, Z, Y, X) float32, normalised, at the planned spacing and on the capacity's device of volumes, at one size.

    Looks are taken without reflections unless `mirror` asks for them, since a look shall be cheap. `place` restricts the look to a box, (Z,
    Y, X) slices; outside of it nothing is found.
    """
    classes = network_plan.network.output_channels
    shape = (classes, *image.shape[1:]) if how.regions else image.shape[1:]
    decision = torch.zeros(shape, dtype=torch.bool if how.regions else torch.int16, device=image.device)
    sums = torch.zeros((3, classes - (not how.regions)), dtype=torch.float64, device=image.device)
    seen, inside = image[(slice(None), *place)], decision[(..., *place)]
    (member,) = make_members([network], seen, network_plan, Variants(mirror=mirror, scales=(factor,)))
    z, y, x = seen.shape[1:]
    for brick in blend([member], (z, y, x), classes, how, capacity):
        sums += sums_of(brick.probabilities, how.regions)
        inside[(..., *brick.place)] = decide(brick.probabilities, how.regions)
    return Look(factor, decision, sums)


def surroundings(one: Look, patch: Shape) -> ImagePart:
    """Return the box of what a look found, with half a patch on every side, which is as far as a tile about a found voxel reaches.

    It is the whole image where nothing was found. Looks at an enlarged image need no more, which saves most of their cost in large images.
    """
    shape = one.decision.shape[-3:]
    box = nonzero_box(one.decision.reshape(-1, *shape).cpu().numpy())
    z, y, x = (
        slice(max(0, start - size // 2), min(stop + size // 2, length))
        for start, stop, size, length in zip(box.start, box.stop, patch, shape, strict=True)
    )
    return WHOLE if (z, y, x) == tuple(slice(0, length) for length in shape) else (z, y, x)


def agreement(one: Look, other: Look) -> Numbers:
    """Return for each label the Dice between two decisions on the same grid; 0 where only one of them or none found it."""
    other_decision = other.decision.to(one.decision.device)  # memory may have run out between the two
    return overlap_of(one.decision, other_decision, one.sums.shape[1])
