"""What a user may ask of the planner."""

import math
from dataclasses import dataclass

from configs.errors import Fault, raise_faults
from configs.fingerprint import Shape, Spacing
from configs.plan import NETWORKS

CONFIGURATIONS = ("3d_fullres",)


@dataclass(frozen=True)
class PlanningOptions:
    """Overrides of the planner's rules; None leaves a decision to them.

    Attributes:
        networks: which to plan, of `se` and `baseline`.
        configurations: resolutions to plan; so far `3d_fullres`.
        gpu_memory: GB that training may take.
        spacing: mm (Z, Y, X) of the planned grid.
        patch_size: voxels (Z, Y, X).
        num_scales: size of the scale group; 1 is the smooth network without a group.
        scale_step: ratio of neighbouring scales.

    Raises:
        InputError: options that cannot be met; all of them are listed.
    """

    networks: tuple[str, ...] = NETWORKS
    configurations: tuple[str, ...] = CONFIGURATIONS
    gpu_memory: float = 8.0
    spacing: Spacing | None = None
    patch_size: Shape | None = None
    num_scales: int | None = None
    scale_step: float | None = None

    def __post_init__(self) -> None:
        faults = [
            Fault(f"--network {name}", "there is no such network", f"Choose from {', '.join(NETWORKS)}")
            for name in self.networks
            if name not in NETWORKS
        ]
        faults += [
            Fault(f"--configurations {name}", "it cannot be planned yet", f"Choose from {', '.join(CONFIGURATIONS)}")
            for name in self.configurations
            if name not in CONFIGURATIONS
        ]
        if not 0 < self.gpu_memory < math.inf:
            faults.append(
                Fault(f"--gpu-memory {self.gpu_memory}", "it must be positive", "Give the GB of the GPU, for example 8")
            )
        if self.spacing and not all(0 < size < math.inf for size in self.spacing):
            faults.append(Fault(f"--spacing {self.spacing}", "lengths must be positive", "Give mm for Z, Y and X"))
        if self.patch_size and any(size < 1 for size in self.patch_size):
            faults.append(Fault(f"--patch-size {self.patch_size}", "sizes must be positive", "Give voxels for Z, Y and X"))
        if self.num_scales is not None and not 1 <= self.num_scales <= 16:
            faults.append(Fault(f"--num-scales {self.num_scales}", "it must be 1 to 16", "2 to 5 are usual"))
        if self.scale_step is not None and not 1 < self.scale_step <= 4:
            faults.append(Fault(f"--scale-step {self.scale_step}", "it must be above 1 and at most 4", "1.26 is usual"))
        raise_faults(faults)
