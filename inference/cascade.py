"""Cascades: a second network that also sees the segmentation of the image by a first one at lower resolution."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs.dataset import DatasetDescription
from configs.errors import Fault, InputError
from configs.folders import ModelFolder
from inference.model import Model
from preprocessing.pipeline import Trace
from preprocessing.resample import resample_labels


def find_first_stage(models: Sequence[Model], folders: Sequence[Path]) -> Path | None:
    """Return the model folder of the first stage, beside that of the second: `3d_lowres_se` for `3d_cascade_fullres_se`.

    Raises:
        InputError: the folder is missing, or the models have different first stages.
    """
    found = set()
    for model, folder in zip(models, folders, strict=True):
        name, configuration = model.plan.configuration_name, model.plan.configuration
        if configuration.previous is not None:
            # keep what follows the configuration's name: network and tag
            place = folder.resolve()
            found.add(place.parent / f"{configuration.previous}{place.name.removeprefix(name)}")
    if len(found) > 1:
        raise InputError(Fault("models", f"the first stages differ: {', '.join(map(str, sorted(found)))}", _REMEDY))
    for folder in found:
        if not ModelFolder(folder).plan.is_file():
            raise InputError(Fault(str(folder), "the first stage of the cascade is missing", _REMEDY))
        return folder
    return None


def cascade_channels(indices: NDArray[np.int16], trace: Trace, description: DatasetDescription) -> NDArray[np.float32]:
    """Return class indices (Z, Y, X) on the grid of the stored image as channels of the prepared image, one for each foreground class.

    The channels are (description.cascade_channels, *trace.resampled_shape) of 0 and 1.
    """
    return one_hot(on_prepared_grid(indices, trace), description.cascade_channels)


def on_prepared_grid(indices: NDArray[np.int16], trace: Trace) -> NDArray[np.int16]:
    """Bring class indices (Z, Y, X) from the grid of the stored image to that of the prepared one."""
    cropped = np.ascontiguousarray(trace.box.crop(trace.orientation.apply(indices)), dtype=np.int16)
    return resample_labels(cropped, trace.resampled_shape, trace.separate_axis)


def one_hot(indices: NDArray[np.int16], channels: int) -> NDArray[np.float32]:
    """Return the one-hot encoding (channels, Z, Y, X) of class indices (Z, Y, X), without background."""
    return np.stack([indices == index for index in range(1, channels + 1)]).astype(np.float32)


_REMEDY = "Train the first stage of the same dataset, and keep both folders side by side"
