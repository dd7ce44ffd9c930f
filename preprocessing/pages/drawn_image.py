"""What a figure shows of an image: its first channel in grey, or its colours."""

import numpy as np
from numpy.typing import NDArray

from configs.dataset import DatasetDescription, are_colours

_LARGEST = 255.0


def drawn_image(image: NDArray[np.float32], description: DatasetDescription) -> NDArray:
    """Return the first channel (Z, Y, X) of an image (C, Z, Y, X), or colours (Z, Y, X, 3) uint8 where the channels are colours.

    Colours run from 0 to 255, or to the largest value of an image that exceeds it.
    """
    if not are_colours(description.channels) or len(image) != len(description.channels):
        return image[0]
    largest = max(_LARGEST, float(image.max(initial=0)))
    return np.moveaxis(np.clip(np.nan_to_num(image) * (_LARGEST / largest), 0, _LARGEST).astype(np.uint8), 0, -1)
