"""Voxelwise uncertainty of an ensemble, in bits.

With the members' probabilities p_m of weight w_m and their mean p = sum_m w_m p_m, the entropy H(p) is the total uncertainty, and the
mutual information `H(p) - sum_m w_m H(p_m)` is the part due to the members' disagreement (Gal et al. 2017; Lakshminarayanan et al.
2017). The former is high where a border is blurred, the latter where the model lacks knowledge.
"""

from math import log

import torch
from torch import Tensor


def entropy(probabilities: Tensor, regions: bool) -> Tensor:
    """Return the entropy (...) in bits of probabilities (K, ...).

    Classes have an entropy from 0 to log2(K); the entropies of regions are added, from 0 to K.
    """
    total = -torch.special.xlogy(probabilities, probabilities).sum(0)
    if regions:
        rest = 1 - probabilities
        total -= torch.special.xlogy(rest, rest).sum(0)
    return total.div_(log(2)).clamp_(min=0)


def disagreement(mean_entropy: Tensor, member_entropy: Tensor) -> Tensor:
    """Return the mutual information in bits from the entropy of the mean and the mean entropy of the members."""
    return (mean_entropy - member_entropy).clamp_(min=0)
