"""What is taken away from a segmentation: pieces of a label that are not its largest, or that are too small."""

from collections.abc import Mapping

import cc3d
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from configs.dataset import DatasetDescription
from configs.errors import Fault, raise_faults
from configs.files import Value

_CONNECTIVITY = 26
_TOLERANCE = 1e-6  # relative: volumes are sums of floats


class Rule(Value):
    """What is done with one label.

    Attributes:
        only_largest: keep its largest connected piece (26 neighbours) alone.
        smallest_volume: mm^3 that a piece must have to be kept.
    """

    only_largest: bool = False
    smallest_volume: float = Field(default=0.0, ge=0)

    def kept(self, volumes: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which of a label's pieces in one case are kept, from their volumes in mm^3."""
        kept = volumes >= self.smallest_volume * (1 - _TOLERANCE)
        if self.only_largest and len(volumes):
            kept &= np.arange(len(volumes)) == int(volumes.argmax())
        return kept


class Postprocessing(Value):
    """Label name -> rule. Voxels that are taken away become background. Regions, whose labels overlap, have no rules."""

    rules: dict[str, Rule] = Field(default_factory=dict)

    def check(self, description: DatasetDescription) -> None:
        """Raise `InputError` where a rule is for a label that the dataset does not have, or for a region."""
        raise_faults(
            Fault(f"postprocessing of `{name}`", "the dataset has no such label", f"It has {', '.join(description.foreground)}")
            for name in self.rules
            if not isinstance(description.labels.get(name), int) or name not in description.foreground
        )


def pieces(mask: NDArray[np.bool_]) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
    """Connected pieces of a mask (Z, Y, X): their numbers from 1 with 0 elsewhere, and the voxels of each."""
    numbered, count = cc3d.connected_components(mask.astype(np.uint8), connectivity=_CONNECTIVITY, return_N=True)
    return numbered, np.bincount(numbered.ravel(), minlength=count + 1)[1:]


def postprocess(
    labels: NDArray[np.integer], voxel_volume: float, rules: Mapping[str, Rule], description: DatasetDescription
) -> NDArray[np.integer]:
    """A copy of label values (Z, Y, X) with the rules applied.

    Args:
        labels: values as the description names them.
        voxel_volume: mm^3.
        rules: label name -> rule.
        description: names and values.
    """
    cleaned = labels.copy()
    for name, rule in rules.items():
        numbered, voxels = pieces(labels == description.labels[name])
        kept = np.concatenate([[True], rule.kept(voxels.astype(np.float64) * voxel_volume)])
        cleaned[~kept[numbered]] = 0
    return cleaned
