"""The loss is nnU-Net's, to five digits, on scores and labels that a formula gives again."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from trainers.optimisation.loss import ClassLoss, DeepSupervision, RegionLoss

SHAPES = ((8, 12, 6), (4, 6, 3), (2, 3, 3))

# nnunetv2 2.8.1, PyTorch 2.13: its DC_and_CE_loss (classes) or DC_and_BCE_loss (regions {1, 2} and {2}) with its default
# constants, alone and in its DeepSupervisionWrapper with targets of DownsampleSegForDSTransform, on `wave` and `classes` below.
# (regions, batch dice, ignored index): loss of the finest stage, of all stages, norms of the gradients of the two finest stages
NNUNET = {
    (False, False, None): (1.8606838, 1.8241055, 0.02229298, 0.03088015),
    (False, False, 3): (1.8015666, 1.8034911, 0.03117926, 0.04006692),
    (False, True, None): (1.8604348, 1.8234071, 0.02229310, 0.03088516),
    (False, True, 3): (1.8020089, 1.8028660, 0.03117490, 0.04007461),
    (True, False, None): (0.5528722, 0.5587376, 0.00988780, 0.01393564),
    (True, False, 3): (1.7220075, 1.7596498, 0.02531806, 0.03306878),
    (True, True, None): (0.5528394, 0.5585347, 0.00988747, 0.01391914),
    (True, True, 3): (1.7220281, 1.7588563, 0.02532015, 0.03305693),
}


def wave(shape: tuple[int, ...], seed: int) -> Tensor:
    n = np.arange(math.prod(shape))
    return torch.from_numpy((3 * np.sin(0.7 * n**1.5 + seed)).reshape(shape)).float()


def classes(number: int) -> Tensor:
    n = np.arange(2 * math.prod(SHAPES[0]))
    drawn = (np.abs(np.sin(0.3 * n**1.3 + 1)) * number).astype(int).clip(0, number - 1)
    return torch.from_numpy(drawn.reshape(2, *SHAPES[0]))


@pytest.mark.parametrize("case", NNUNET, ids=str)
def test_losses_and_gradients(case: tuple[bool, bool, int | None]) -> None:
    regions, batch_dice, ignore = case
    alone = RegionLoss(((1, 2), (2,)), 4, batch_dice, ignore) if regions else ClassLoss(batch_dice, ignore)
    stages = [wave((2, 2 if regions else 3, *shape), index).requires_grad_() for index, shape in enumerate(SHAPES)]
    labels = classes(4 if ignore else 3)
    total = DeepSupervision(alone)(stages, labels)
    total.backward()
    norms = [float(stage.grad.norm()) for stage in stages[:2] if stage.grad is not None]
    found = (float(alone(stages[0], labels).detach()), float(total.detach()), *norms)
    assert found == pytest.approx(NNUNET[case], abs=1e-5, rel=1e-5)
    assert found[2:] == pytest.approx(NNUNET[case][2:], rel=1e-4)
