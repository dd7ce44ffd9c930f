"""Options of the planner."""

import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from configs.errors import Fault, raise_faults
from configs.fingerprint import Shape, Spacing
from configs.plan import NETWORKS, NORMALISATIONS, PUBLISHED
from planners.rules.configurations import CONFIGURATIONS
from planners.rules.networks.skeleton import SIZES, Size
from planners.rules.size_range import LIMIT


@dataclass(frozen=True, kw_only=True)
class GridOptions:
    """Overrides of the grid of patches at full resolution; None leaves a decision to the rules.

    Attributes:
        spacing: spacing in mm (Z, Y, X) of the planned grid.
        patch_size: patch in voxels (Z, Y, X); for `2d`, with one voxel across slices.
    """

    spacing: Spacing | None = None
    patch_size: Shape | None = None


@dataclass(frozen=True)
class PlanningOptions(GridOptions):
    """Overrides of the planning rules; None leaves a decision to the rules.

    Attributes:
        networks: networks to plan, names of `NETWORKS` or `PUBLISHED`.
        configurations: names of the configurations to plan, from `CONFIGURATIONS`; None plans all that the rules select.
        size: size of the networks.
        gpu_memory: GPU memory in GB available for training; None means 4, 8 or 24 for the sizes small, medium and large.
        orientation: `canonical` turns every image to RAS; None lets the rules choose a slice frame where it suits the data.
        normalisation: scheme of each channel, a name of `NORMALISATIONS`; None, for one channel or all, leaves it to the channel's name.
        scale_range: sizes of the anatomy to expect in new cases, as factors of the sizes in training, at most 1 and at least 1.
        num_scales: number of scales of `se`; 1 (the default) is a network without a scale group, `spread` uses the spread of sizes.
        scale_step: ratio of neighbouring scales.
        nnunet_plans: plans file of nnU-Net that is taken instead of the rules, with the network `nnunet`; only `configurations` and
            `scale_range` may stand beside it.

    Raises:
        InputError: options are out of range or contradict each other; all of them are listed.
    """

    networks: tuple[str, ...] = NETWORKS
    configurations: tuple[str, ...] | None = None
    size: Size = "medium"
    gpu_memory: float | None = None
    orientation: Literal["canonical"] | None = None
    normalisation: tuple[str | None, ...] | None = None
    scale_range: tuple[float, float] | None = None
    num_scales: int | Literal["spread"] | None = None
    scale_step: float | None = None
    nnunet_plans: Path | None = None

    def __post_init__(self) -> None:
        faults = _unknown("network", "network", self.networks, (*NETWORKS, *PUBLISHED))
        faults += _unknown("configurations", "configuration", self.configurations or (), CONFIGURATIONS)
        faults += _unknown("size", "size", (self.size,), SIZES)
        if self.orientation not in (None, "canonical"):
            remedy = "Give canonical, or leave the option out for the planned orientation"
            faults.append(Fault(f"--orientation {self.orientation}", "unknown orientation", remedy))
        schemes = [one for one in self.normalisation or () if one is not None and one.casefold() not in NORMALISATIONS]
        faults += _unknown("normalisation", "scheme", schemes, NORMALISATIONS)
        if self.gpu_memory is not None and not 0 < self.gpu_memory < math.inf:
            remedy = "Give the memory of the GPU in GB, for example 8"
            faults.append(Fault(f"--gpu-memory {self.gpu_memory}", "the memory must be positive", remedy))
        if self.spacing and not all(0 < size < math.inf for size in self.spacing):
            faults.append(Fault(f"--spacing {self.spacing}", "lengths must be positive", "Give mm for Z, Y and X"))
        if self.patch_size and any(size < 1 for size in self.patch_size):
            faults.append(Fault(f"--patch-size {self.patch_size}", "sizes must be positive", "Give voxels for Z, Y and X"))
        if self.scale_range is not None and not 1 / LIMIT <= self.scale_range[0] <= 1 <= self.scale_range[1] <= LIMIT:
            problem = f"the range must begin between {1 / LIMIT:g} and 1 and end between 1 and {LIMIT:g}"
            remedy = "Give factors of the sizes in training, such as 0.5 2, or leave the option out for the planned range"
            faults.append(Fault(f"--scale-range {self.scale_range[0]:g} {self.scale_range[1]:g}", problem, remedy))
        if self.num_scales not in (None, "spread", *range(1, 17)):
            problem = "the number of scales must be 1 to 16, or `spread`"
            faults.append(Fault(f"--num-scales {self.num_scales}", problem, "Leave the option out for the default, 1"))
        if self.scale_step is not None and not 1 < self.scale_step <= 4:
            problem = "the step must be above 1 and at most 4"
            faults.append(Fault(f"--scale-step {self.scale_step}", problem, "Leave the option out for the default, 1.26"))
        if "se" not in self.networks and (self.num_scales or self.scale_step):
            remedy = "Add `se` to --network, or leave these options out"
            faults.append(Fault("--num-scales and --scale-step", "only `se` has scales", remedy))
        raise_faults([*faults, *self._beside_nnunet_plans()])

    def _beside_nnunet_plans(self) -> Iterator[Fault]:
        """Yield a fault for each override of rules that a plans file of nnU-Net leaves no room for."""
        allowed = ("nnunet_plans", "configurations", "scale_range", "gpu_memory")
        for field in fields(self) if self.nnunet_plans is not None else ():
            if field.name not in allowed and getattr(self, field.name) != field.default:
                option = f"--{field.name.replace('_', '-').replace('networks', 'network')}"
                yield Fault(option, "nnU-Net's plans decide this", "Leave out this option or --from-nnunet-plans")


def _unknown(option: str, kind: str, given: Iterable[str], known: Collection[str]) -> list[Fault]:
    remedy = f"Choose from {', '.join(known)}"
    return [Fault(f"--{option} {name}", f"unknown {kind}", remedy) for name in given if name not in known]
