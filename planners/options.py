"""What a user may ask of the planner."""

import math
from dataclasses import dataclass
from typing import Literal

from configs.errors import Fault, raise_faults
from configs.fingerprint import Shape, Spacing
from configs.plan import NETWORKS
from planners.rules.configurations import CONFIGURATIONS
from planners.rules.skeleton import SIZES, Size


@dataclass(frozen=True)
class PlanningOptions:
    """Overrides of the planner's rules; None leaves a decision to them.

    Attributes:
        networks: which to plan, of `se` and `baseline`.
        configurations: which to plan, of `CONFIGURATIONS`; None plans all that the rules give.
        size: of the networks.
        gpu_memory: GB that training may take; None takes what goes with the size: 4, 8 or 24.
        spacing: mm (Z, Y, X) of the planned grid at full resolution.
        patch_size: voxels (Z, Y, X) at full resolution; for slices, a patch with one voxel across them.
        num_scales: size of the scale group; 1, the default, is the smooth network without a group; `spread` follows the spread of sizes.
        scale_step: ratio of neighbouring scales.

    Raises:
        InputError: options that cannot be met; all of them are listed.
    """

    networks: tuple[str, ...] = NETWORKS
    configurations: tuple[str, ...] | None = None
    size: Size = "medium"
    gpu_memory: float | None = None
    spacing: Spacing | None = None
    patch_size: Shape | None = None
    num_scales: int | Literal["spread"] | None = None
    scale_step: float | None = None

    def __post_init__(self) -> None:
        faults = [
            Fault(f"--network {name}", "there is no such network", f"Choose from {', '.join(NETWORKS)}")
            for name in self.networks
            if name not in NETWORKS
        ]
        faults += [
            Fault(f"--configurations {name}", "there is no such configuration", f"Choose from {', '.join(CONFIGURATIONS)}")
            for name in self.configurations or ()
            if name not in CONFIGURATIONS
        ]
        if self.size not in SIZES:
            faults.append(Fault(f"--size {self.size}", "there is no such size", f"Choose from {', '.join(SIZES)}"))
        if self.gpu_memory is not None and not 0 < self.gpu_memory < math.inf:
            faults.append(
                Fault(f"--gpu-memory {self.gpu_memory}", "it must be positive", "Give the GB of the GPU, for example 8")
            )
        if self.spacing and not all(0 < size < math.inf for size in self.spacing):
            faults.append(Fault(f"--spacing {self.spacing}", "lengths must be positive", "Give mm for Z, Y and X"))
        if self.patch_size and any(size < 1 for size in self.patch_size):
            faults.append(Fault(f"--patch-size {self.patch_size}", "sizes must be positive", "Give voxels for Z, Y and X"))
        if self.num_scales not in (None, "spread", *range(1, 17)):
            faults.append(Fault(f"--num-scales {self.num_scales}", "it must be 1 to 16, or `spread`", "1 is the default"))
        if self.scale_step is not None and not 1 < self.scale_step <= 4:
            faults.append(Fault(f"--scale-step {self.scale_step}", "it must be above 1 and at most 4", "1.26 is usual"))
        if "se" not in self.networks and (self.num_scales or self.scale_step):
            faults.append(
                Fault("--num-scales and --scale-step", "only `se` has scales", "Add `se` to --network, or leave them out")
            )
        raise_faults(faults)
