"""How sure an ensemble is, voxel by voxel, in bits.

With members' probabilities p_m of weight w_m and their mean p = sum_m w_m p_m: the entropy H(p) is the whole uncertainty, and the
mutual information `H(p) - sum_m w_m H(p_m)` the part of it that comes from the members' disagreement (Gal et al. 2017; Lakshminarayanan
et al. 2017). The first is high where a border is blurred, the second where the model lacks knowledge.
"""

from math import log

import torch
from torch import Tensor


def entropy(probabilities: Tensor, regions: bool) -> Tensor:
    """Entropy in bits: of the classes, or the sum over the regions of each one's own.

    Args:
        probabilities: (K, ...), of classes that sum to 1, or of regions each in 0..1.
        regions: which of the two.

    Returns:
        (...), from 0 to log2(K), or to K for regions.
    """
    total = -torch.special.xlogy(probabilities, probabilities).sum(0)
    if regions:
        rest = 1 - probabilities
        total -= torch.special.xlogy(rest, rest).sum(0)
    return total.div_(log(2)).clamp_(min=0)


def disagreement(mean_entropy: Tensor, member_entropy: Tensor) -> Tensor:
    """Mutual information in bits, at least 0, from the entropy of the mean and the mean of the members' entropies."""
    return (mean_entropy - member_entropy).clamp_(min=0)
