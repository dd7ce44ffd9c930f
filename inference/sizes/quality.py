"""What is expected of one segmentation, and what speaks against it."""

import math
from dataclasses import dataclass

from configs.plan import SizeRange
from inference.sizes.calibration import Calibration, Evidence, Expected, expect, expected_mean, missing_labels


@dataclass(frozen=True)
class Quality:
    """Expected quality of the segmentation of one image, from the validation cases of its model."""

    expected: dict[str, Expected | None]  # of each label; None for one that was not found and may be absent
    size: float  # size of the anatomy relative to training, at which it was segmented
    doubts: tuple[str, ...]  # what lies outside of what validation cases showed

    @property
    def mean(self) -> float:
        """Expected mean Dice."""
        return expected_mean(self.expected)


def judge(calibration: Calibration, evidence: Evidence, factor: float, mirror: bool = False) -> Quality:
    """Return the expected quality, given a look at the image at this factor of its size, and whether reflections follow."""
    expected = expect(calibration, evidence, mirror)
    doubts = [f"{label} was not found, but every validation case has it" for label in missing_labels(calibration, evidence)]
    if expected_mean(expect(calibration, evidence)) < calibration.usual:
        usual = 1 - (1 - calibration.usual) * math.exp(calibration.mirroring * mirror)
        doubts.append(
            f"the expected mean Dice {expected_mean(expected):.2f} is below {usual:.2f}, which 95 % of the validation cases reach"
        )
    seen = calibration.seen or ((0.0, 0.0),) * len(calibration.labels)
    for label, diameter, found in zip(calibration.labels, evidence.diameters, seen, strict=True):
        doubts += _size_doubts(calibration.sizes, label, float(diameter) / factor, found)
    return Quality(expected, 1 / factor, tuple(doubts))


def _size_doubts(sizes: SizeRange, label: str, diameter: float, seen: tuple[float, float]) -> list[str]:
    """Return what is unusual about the size of a label: it fits neither the planned sizes nor what was found in validation cases."""
    known = sizes.labels.get(label)
    if known is None or known.octaves is None or not diameter > 0:
        return []
    low, high = (known.diameter * 2**reach for reach in (-known.octaves, known.octaves))
    low, high = min(low, known.diameter * sizes.low), max(high, known.diameter * sizes.high)
    low, high = min(low, seen[0] or low), max(high, seen[1])
    if math.nextafter(low, 0) <= diameter <= math.nextafter(high, math.inf):
        return []
    return [f"{label} has a diameter of {diameter:.3g} mm, where {low:.3g} to {high:.3g} mm are expected"]
