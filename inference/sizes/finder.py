"""Find the size of the anatomy in one image with one network of a model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, log2, prod

from torch import Tensor, nn

from configs.fingerprint import Spacing
from configs.plan import ModelPlan, NetworkPlan
from inference.engine.capacity import Capacity
from inference.engine.ensemble import Blending
from inference.model import Model
from inference.options import PredictionOptions, searches
from inference.sizes.calibration import STEP, WIDEST, Calibration, Evidence
from inference.sizes.looks import WHOLE, ImagePart, Look, agreement, look, surroundings
from inference.sizes.search import FoundSize, find_factor, uncalibrated


def with_affordable_reflections(planned: NetworkPlan, factor: float) -> NetworkPlan:
    """Return the plan with so few mirror axes that an image of `factor` times its size takes no more passes over voxels than as it is.

    Each mirror axis doubles the passes; enlarging multiplies the voxels by the factor for each axis that is scaled.
    """
    scaled = sum(size > 1 for size in planned.patch_size)
    dropped = max(0, ceil(scaled * log2(factor) - 0.1))  # a step of 1.25 along three axes counts as a doubling
    return planned.model_copy(update={"mirror_axes": planned.mirror_axes[: max(0, len(planned.mirror_axes) - dropped)]})


@dataclass(frozen=True)
class SizeFinder:
    """Looks at images with one network and searches the size of the anatomy where that is wanted."""

    network: nn.Module
    plan: ModelPlan
    calibration: Calibration
    search: bool  # whether sizes are searched at all
    forced: bool  # whether they are searched although an image looks as usual
    how: Blending
    capacity: Capacity

    @classmethod
    def of(
        cls, model: Model, networks: Sequence[nn.Module], options: PredictionOptions, how: Blending, capacity: Capacity
    ) -> "SizeFinder | None":
        """Return the finder of a model, with its first calibrated network; None where nothing is calibrated and no search is asked for."""
        wanted = searches(model, options)
        if options.scales is not None or (model.calibration is None and not wanted):
            return None
        calibration = model.calibration or uncalibrated(model.plan.dataset.foreground, model.plan.whole.sizes or WIDEST)
        looking = next((position for position, fold in enumerate(model.networks) if fold in calibration.networks), 0)
        return cls(
            networks[looking],
            model.plan,
            calibration,
            wanted,
            options.search == "always",
            replace(how, entropies=False),
            capacity,
        )

    def find(self, image: Tensor, spacing: Spacing, first: Evidence | None = None) -> FoundSize:
        """Return the factor of the image's size at which to segment it.

        Args:
            image: normalised image (C, Z, Y, X) float32 at the planned spacing, on the capacity's device of volumes.
            spacing: spacing of its grid in mm, (Z, Y, X).
            first: what the image as it is shows, if that is known; None looks at it.
        """
        volume = prod(spacing)
        looks: dict[float, Look] = {}
        near: list[ImagePart] = []  # what enlarged images are looked at, once one is

        def see(factor: float) -> Look:
            key = round(factor, 6)
            if key not in looks:
                if key > 1 and not near:  # the search has seen the natural size first
                    near.append(surroundings(looks[1.0], self.plan.network.patch_size))
                looks[key] = self._look(image, factor, near[0] if key > 1 else WHOLE)
            return looks[key]

        def show(factor: float) -> Evidence:
            here, smaller = see(factor), see(factor / STEP)
            return Evidence(here.expected, agreement(here, smaller), here.diameters(volume))

        if first is None:
            here = see(1.0)
            first = Evidence(here.expected, None, here.diameters(volume))
        if not self.search:
            return FoundSize(1.0, first, searched=False)
        found = find_factor(self.calibration, first, show, self.forced)
        if found.factor <= 1 or near[0] == WHOLE:
            return found
        whole = self._look(image, found.factor)  # labels may lie far from those that were found at natural size
        return replace(found, evidence=replace(found.evidence, expected=whole.expected, diameters=whole.diameters(volume)))

    def _look(self, image: Tensor, factor: float, place: ImagePart = WHOLE) -> Look:
        return look(self.network, image, self.plan.network, factor, self.how, self.capacity, place=place)
