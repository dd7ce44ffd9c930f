"""Postprocess a segmentation: remove connected components of a label that are not its largest or are too small."""

import cc3d
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from configs.dataset import DatasetDescription
from configs.errors import Fault, raise_faults
from configs.files import Value

_CONNECTIVITY = 26
_TOLERANCE = 1e-6  # relative, since volumes are sums of floats


class Rule(Value):
    """Postprocessing of one label."""

    only_largest: bool = False  # whether to keep only the largest connected component (26 neighbours)
    smallest_volume: float = Field(default=0.0, ge=0)  # volume in mm^3 below which a component is removed

    def kept(self, volumes: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which components of a label in one case are kept, given their volumes in mm^3."""
        kept = volumes >= self.smallest_volume * (1 - _TOLERANCE)
        if self.only_largest and len(volumes):
            kept &= np.arange(len(volumes)) == int(volumes.argmax())
        return kept


class Postprocessing(Value):
    """What is done to a segmentation. Removed voxels become background.

    Attributes:
        largest_of: sets of label values, one after the other: of the voxels with any of these values, those of the largest connected
            component are kept, of all that are equally large. nnU-Net's models have these.
        rules: rules by label, after that. Regions overlap, so they have no rules.
    """

    largest_of: tuple[tuple[int, ...], ...] = ()
    rules: dict[str, Rule] = Field(default_factory=dict)

    def check(self, description: DatasetDescription) -> None:
        """Raise `InputError` if a rule is for a region or for a label or value that the dataset lacks."""
        raise_faults(
            Fault(
                "postprocessing", f"the dataset has no label {value}", f"Choose among {', '.join(map(str, description.values))}"
            )
            for value in sorted({value for values in self.largest_of for value in values} - set(description.values))
        )
        raise_faults(
            Fault(
                f"postprocessing of `{name}`",
                "the dataset has no such label",
                f"Choose among {', '.join(description.foreground)}",
            )
            for name in self.rules
            if not isinstance(description.labels.get(name), int) or name not in description.foreground
        )


def connected_components(mask: NDArray[np.bool_]) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
    """Return the connected components of a mask (Z, Y, X), numbered from 1 with 0 elsewhere, and their numbers of voxels."""
    numbered, count = cc3d.connected_components(mask.astype(np.uint8), connectivity=_CONNECTIVITY, return_N=True)
    return numbered, np.bincount(numbered.ravel(), minlength=count + 1)[1:]


def postprocess(
    labels: NDArray[np.integer], voxel_volume: float, how: Postprocessing, description: DatasetDescription
) -> NDArray[np.integer]:
    """Return a copy of label values (Z, Y, X) with the postprocessing applied; `voxel_volume` is in mm^3."""
    cleaned = labels.copy()
    for values in how.largest_of:
        numbered, voxels = connected_components(np.isin(cleaned, values))
        smaller = np.concatenate([[False], voxels < voxels.max(initial=0)])
        cleaned[smaller[numbered]] = 0
    for name, rule in how.rules.items():
        numbered, voxels = connected_components(labels == description.labels[name])
        kept = np.concatenate([[True], rule.kept(voxels.astype(np.float64) * voxel_volume)])
        cleaned[~kept[numbered]] = 0
    return cleaned
