"""Recall of the centrelines of thin structures, so that a vessel is not cut where it is thin.

After Kirchhoff et al., "Skeleton Recall Loss for Connectivity Conserving and Resource Efficient Segmentation of Thin Tubular Structures"
(2024), section 3: the probabilities must cover the skeleton of the reference, dilated by one voxel. Skeletons are scikit-image's.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

SMOOTH = 1e-5


def centreline_recall(probabilities: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the mean share of the centrelines that the probabilities cover, a scalar in [0, 1].

    Args:
        probabilities: probabilities (B, K, Z, Y, X) of labels or regions.
        target: what is true (B, K, Z, Y, X), bool.
        valid: voxels that count (B, 1 or K, Z, Y, X); None counts all.

    Returns:
        The mean over the labels of the samples that have them; 1 where none has any.
    """
    lines = torch.from_numpy(centrelines(target.detach().cpu().numpy())).to(probabilities.device)
    if valid is not None:
        lines = lines & valid
    length = lines.sum((2, 3, 4))
    recall = ((probabilities * lines).sum((2, 3, 4)) + SMOOTH) / (length + SMOOTH)
    present = length > 0
    return torch.where(present, recall, 0).sum() / present.sum() if present.any() else recall.new_ones(())


def centrelines(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the skeleton of each mask (B, K, Z, Y, X), dilated by one voxel within the mask."""
    from skimage.morphology import skeletonize  # takes a second to load, and few trainings use it

    lines = np.zeros_like(masks)
    for place in np.argwhere(masks.any((2, 3, 4))):
        mask = masks[tuple(place)]
        box = ndimage.find_objects(mask.astype(np.uint8))[0]
        skeleton = skeletonize(np.pad(mask[box], 1))[1:-1, 1:-1, 1:-1] > 0
        lines[tuple(place)][box] = ndimage.binary_dilation(skeleton, np.ones((3, 3, 3))) & mask[box]
    return lines
