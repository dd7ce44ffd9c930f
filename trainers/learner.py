"""What learns, with all of its state."""

from dataclasses import dataclass

from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from trainers.checkpoint import CheckpointKeeper
from trainers.precision import Precision


@dataclass(frozen=True)
class Learner:
    """A network and what changes it.

    Attributes:
        network: with fresh or given weights, on its device.
        average: of its weights, or None.
        optimiser, precision: of its steps.
        keeper: of checkpoints of all of these.
    """

    network: nn.Module
    average: AveragedModel | None
    optimiser: Optimizer
    precision: Precision
    keeper: CheckpointKeeper

    @property
    def kept(self) -> nn.Module:
        """The network whose weights are the result."""
        return self.network if self.average is None else self.average.module
