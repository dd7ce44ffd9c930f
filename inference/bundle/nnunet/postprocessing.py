"""Postprocessing that nnU-Net chose for a model. Its JSON file is read; its pickle is not."""

from typing import Any

from configs.dataset import DatasetDescription
from configs.errors import Fault, InputError
from inference.bundle.nnunet.source import REMEDY
from inference.prediction.postprocessing import Postprocessing

_KNOWN = "remove_all_but_largest_component_from_segmentation"


def read_postprocessing(content: Any, description: DatasetDescription, where: str) -> Postprocessing:
    """Return the postprocessing that `postprocessing.json` describes.

    Raises:
        InputError: the file is not nnU-Net's, or names other steps or labels.
    """
    try:
        names, arguments = content["postprocessing_fns"], content["postprocessing_kwargs"]
        steps = list(zip(names, arguments, strict=True))
        unknown = [str(name) for name, _ in steps if name != _KNOWN]
        sets = tuple(_values(given["labels_or_regions"]) for _, given in steps if given.get("background_label", 0) == 0)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        problem = f"not a description of postprocessing ({type(error).__name__}: {error})"
        raise InputError(Fault(where, problem, REMEDY)) from error
    if unknown or len(sets) != len(steps):
        problem = f"unknown postprocessing {', '.join(unknown) or 'with another background'}"
        raise InputError(Fault(where, problem, f"Known is {_KNOWN}"))
    found = Postprocessing(largest_of=sets)
    found.check(description)
    return found


def _values(labels_or_regions: Any) -> tuple[int, ...]:
    """Return the label values of a label, of a region or of a list of them."""
    if isinstance(labels_or_regions, list):
        return tuple(sorted({value for one in labels_or_regions for value in _values(one)}))
    if isinstance(labels_or_regions, bool) or not isinstance(labels_or_regions, int):
        raise TypeError(f"a label is a whole number, not {labels_or_regions}")
    return (labels_or_regions,)
