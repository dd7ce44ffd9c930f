"""From class probabilities to the label values that a file holds."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from configs.dataset import BACKGROUND, DatasetDescription
from configs.errors import Fault, raise_faults


def decision_rule(description: DatasetDescription, roi: Sequence[str] | None = None) -> Callable[[Tensor], Tensor]:
    """The voxelwise rule of a dataset.

    Classes: the value of the most probable class, the lower index where two tie. Regions: each region above 1/2 is painted with
    its value of `regions_class_order`, later regions over earlier ones.

    Args:
        description: names and values.
        roi: labels (or regions) to be kept; the others become background, and are painted nowhere. None keeps all.

    Returns:
        A function from probabilities (K, Z, Y, X), on any device, to stored label values (Z, Y, X) int32.

    Raises:
        InputError: the description does not name these labels.
    """
    check_roi(description, roi)
    if description.has_regions:
        order = zip(description.foreground, description.regions_class_order or (), strict=True)
        return partial(_paint_regions, values=tuple(value if roi is None or name in roi else None for name, value in order))
    kept = set(description.values) if roi is None else {description.labels[name] for name in roi}
    values = [value if value in kept else 0 for value in description.values]
    return partial(_most_probable, values=torch.tensor(values, dtype=torch.int32))


def check_roi(description: DatasetDescription, roi: Sequence[str] | None) -> None:
    """Raise `InputError` for each name that is no label of the dataset."""
    raise_faults(
        Fault(f"label `{name}`", "the model does not give it", f"Its labels are {', '.join(description.foreground)}")
        for name in roi or ()
        if name not in description.foreground and name != BACKGROUND
    )


def _most_probable(probabilities: Tensor, values: Tensor) -> Tensor:
    winner = probabilities.max(0).indices  # the first of several; argmax takes several times as long
    return values.to(probabilities.device)[winner]


def _paint_regions(probabilities: Tensor, values: tuple[int | None, ...]) -> Tensor:
    labels = torch.zeros(probabilities.shape[1:], dtype=torch.int32, device=probabilities.device)
    for probability, value in zip(probabilities, values, strict=True):
        if value is not None:
            labels[probability > 0.5] = value
    return labels
