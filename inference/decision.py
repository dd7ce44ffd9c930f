"""From class probabilities to the label values that a file holds."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from configs.dataset import DatasetDescription


def decision_rule(description: DatasetDescription) -> Callable[[Tensor], Tensor]:
    """The voxelwise rule of a dataset.

    Classes: the value of the most probable class, the lower index where two tie. Regions: each region above 1/2 is painted with
    its value of `regions_class_order`, later regions over earlier ones.

    Returns:
        A function from probabilities (K, Z, Y, X), on any device, to stored label values (Z, Y, X) int32.
    """
    if description.has_regions:
        return partial(_paint_regions, values=description.regions_class_order or ())
    return partial(_most_probable, values=torch.tensor(description.values, dtype=torch.int32))


def _most_probable(probabilities: Tensor, values: Tensor) -> Tensor:
    return values.to(probabilities.device)[probabilities.argmax(0)]


def _paint_regions(probabilities: Tensor, values: tuple[int, ...]) -> Tensor:
    labels = torch.zeros(probabilities.shape[1:], dtype=torch.int32, device=probabilities.device)
    for probability, value in zip(probabilities, values, strict=True):
        labels[probability > 0.5] = value
    return labels
