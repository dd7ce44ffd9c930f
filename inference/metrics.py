"""Agreement of two segmentations by counting voxels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NAN = float("nan")


@dataclass(frozen=True)
class Overlap:
    """Voxels of one label in a prediction P and a reference R.

    Attributes:
        both: in P and R.
        only_predicted: in P alone.
        only_reference: in R alone.
    """

    both: int
    only_predicted: int
    only_reference: int

    @property
    def predicted(self) -> int:
        """|P|."""
        return self.both + self.only_predicted

    @property
    def reference(self) -> int:
        """|R|."""
        return self.both + self.only_reference

    @property
    def dice(self) -> float:
        """2 |P and R| / (|P| + |R|); NaN where both are empty."""
        return _ratio(2 * self.both, self.predicted + self.reference)

    @property
    def iou(self) -> float:
        """|P and R| / |P or R|; NaN where both are empty."""
        return _ratio(self.both, self.both + self.only_predicted + self.only_reference)

    @property
    def precision(self) -> float:
        """|P and R| / |P|; NaN where nothing is predicted."""
        return _ratio(self.both, self.predicted)

    @property
    def recall(self) -> float:
        """|P and R| / |R|; NaN where the label is absent."""
        return _ratio(self.both, self.reference)

    @property
    def volume_error(self) -> float:
        """(|P| - |R|) / |R|, above 0 where too much is predicted; NaN where the label is absent."""
        return _ratio(self.predicted - self.reference, self.reference)


def confusion_matrix(predicted: NDArray[np.integer], reference: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """Number of voxels for each pair of classes.

    Args:
        predicted, reference: class indices below `classes`, of one shape.
        classes: number of classes.

    Returns:
        (classes, classes) with entry [p, r] for the class p predicted where r is true.

    Raises:
        ValueError: different shapes, or an index out of range.
    """
    if predicted.shape != reference.shape:
        raise ValueError(f"prediction {predicted.shape} and reference {reference.shape} must have one shape")
    for name, indices in (("prediction", predicted), ("reference", reference)):
        if indices.size and not (int(indices.min()) >= 0 and int(indices.max()) < classes):
            raise ValueError(f"the {name} has indices from {indices.min()} to {indices.max()}, not from 0 to {classes - 1}")
    pairs = predicted.astype(np.int64).ravel() * classes + reference.ravel()
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def overlap(confusion: NDArray[np.int64], members: Sequence[int]) -> Overlap:
    """Overlap of a label, or of a region made up of several classes.

    Args:
        confusion: (classes, classes), predicted by reference.
        members: class indices of the label.
    """
    inside = list(members)
    both = int(confusion[np.ix_(inside, inside)].sum())
    return Overlap(both, int(confusion[inside].sum()) - both, int(confusion[:, inside].sum()) - both)


def _ratio(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else NAN
