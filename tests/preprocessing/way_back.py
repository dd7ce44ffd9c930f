"""Prepared labels brought back to the stored image's grid, by the way that predictions take."""

import numpy as np
import torch
from numpy.typing import NDArray

from inference.engine.assemble import restore
from preprocessing.pipeline import Trace
from preprocessing.resample import resample_labels


def restore_labels(labels: NDArray[np.int16], trace: Trace) -> NDArray[np.int16]:
    """Class indices (Z, Y, X) at the planned spacing on the grid of the stored image; background outside the crop."""
    return restore(torch.from_numpy(resample_labels(labels, trace.box.shape, trace.separate_axis)), trace)
