"""What the parts of the check share: the device, the networks, and the form of their results."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from configs.dataset import DatasetDescription
from configs.network import NetworkConfig, ScaleGroup
from planners.rules.networks.se_network import se_network
from planners.rules.networks.skeleton import Size, baseline_network, choose_skeleton
from planners.rules.topology import choose_topology
from se_unet.builder import build_network

DESCRIPTION = DatasetDescription(name="toy", channels=("MR",), labels={"background": 0, "a": 1, "b": 2})
FAMILIES = ("baseline", "se")
BATCH = 2
EDGES: dict[Size, int] = {"small": 128, "medium": 128, "large": 160}  # of patches that fill the GPU of each size


def planned_network(family: str, size: Size, edge: int, scales: int = 1) -> NetworkConfig:
    """Return the network that is planned for patches of edge^3 voxels of 1 mm."""
    topology, skeleton = choose_topology((1, 1, 1), (edge,) * 3), choose_skeleton(size, slices=False)
    if family == "baseline":
        return baseline_network(DESCRIPTION, (1, 1, 1), topology, skeleton)
    return se_network(DESCRIPTION, (1, 1, 1), topology, skeleton, ScaleGroup(smallest_sigma=0.9, number=scales))


class SkippedError(Exception):
    """A part cannot run here; the message says why."""


@dataclass(frozen=True)
class Setting:
    """How a part runs.

    Attributes:
        device: device that is checked.
        is_real: whether it computes by itself; False for the CPU and for the tests' stand-in, whose times mean nothing.
        data: folder of hippocampus in nnU-Net's raw layout.
        folder: folder of the results.
        minutes: length of the real training.
    """

    device: torch.device
    is_real: bool
    data: Path
    folder: Path
    minutes: float = 6.0

    @property
    def edge(self) -> int:
        """Edge of a patch in voxels."""
        return 128 if self.is_real else 16

    @property
    def size(self) -> Size:
        """Size of the networks."""
        return "medium" if self.is_real else "small"

    def config(self, family: str, size: Size | None = None, edge: int | None = None) -> NetworkConfig:
        """Return the description of a planned network; without a real GPU, with an eighth of its channels."""
        planned = planned_network(family, size or self.size, edge or self.edge)
        if self.is_real:
            return planned
        return planned.model_copy(update={"features": tuple(max(2, count // 8) for count in planned.features)})

    def network(self, family: str) -> nn.Module:
        """Return a planned network with the same random weights each time, on the CPU."""
        torch.manual_seed(0)
        return build_network(self.config(family))

    def patches(self, batch: int = BATCH) -> Tensor:
        """Return random images (batch, 1, Z, Y, X) on the CPU."""
        return torch.randn((batch, 1, *(self.edge,) * 3), generator=torch.Generator().manual_seed(0))

    def labels(self) -> Tensor:
        """Return random class indices (B, Z, Y, X) int16 on the CPU."""
        return torch.randint(0, 3, (BATCH, *(self.edge,) * 3), generator=torch.Generator().manual_seed(1), dtype=torch.int16)


@dataclass
class Result:
    """What a part found.

    Attributes:
        checks: one row for each statement that must hold: name, whether it holds, the value found and its limit.
        figures: rows of numbers.
    """

    checks: list[dict[str, Any]] = field(default_factory=list)
    figures: list[dict[str, Any]] = field(default_factory=list)

    def check(self, name: str, value: float, limit: float) -> None:
        """Note that a value must not exceed a limit."""
        self.checks.append({"check": name, "holds": bool(value <= limit), "value": float(value), "limit": float(limit)})
