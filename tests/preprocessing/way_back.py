"""Prepared labels brought back to the stored image's grid, by the way that predictions take."""

import numpy as np
import torch
from numpy.typing import NDArray

from inference.engine.assemble import restore
from preprocessing.pipeline import Trace
from preprocessing.resample import apply_matrices, returning_matrices


def restore_labels(labels: NDArray[np.int16], trace: Trace) -> NDArray[np.int16]:
    """Class indices (Z, Y, X) at the planned spacing on the grid of the stored image; background outside the crop."""
    matrices = returning_matrices(trace.resampled_shape, trace.box.shape, trace.separate_axis)
    indicators = torch.from_numpy((labels == np.arange(labels.max() + 1)[:, None, None, None]).astype(np.float32))
    return restore(apply_matrices(indicators, matrices).argmax(0).short(), trace)
