"""Choose the configurations of a dataset and their grids. Rules are nnU-Net's (Isensee et al. 2021).

`3d_fullres` has the planned spacing. Where a patch covers too little of an image, `3d_lowres` has a coarser one, and
`3d_cascade_fullres` refines its segmentation at full resolution. `2d` has slices across the coarsest axis.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from configs.errors import Fault, raise_faults, times
from configs.fingerprint import Shape
from planners.decision import Decision
from planners.rules.lower_resolution import choose_lower_resolution
from planners.rules.networks.skeleton import Size, Skeleton, choose_skeleton
from planners.rules.patch import Grid, Sampling

CONFIGURATIONS = ("2d", "3d_lowres", "3d_fullres", "3d_cascade_fullres")
SLICES, LOWER, FULL, CASCADE = CONFIGURATIONS


@dataclass(frozen=True)
class Resolution:
    """One configuration, before its networks are planned."""

    grid: Grid  # grid that patches are cut from
    skeleton: Skeleton  # blocks and channels of its networks
    batch_dice: Decision[bool]  # whether the Dice loss treats the batch as one volume, with the reason
    reasons: dict[str, str] = field(default_factory=dict)  # decisions that only this configuration has
    patch_size: Shape | None = None  # requested by the user, or None
    previous: str | None = None  # as in `configs.ConfigurationPlan`
    cases_of: str | None = None  # as in `configs.ConfigurationPlan`


@dataclass(frozen=True)
class Resolutions:
    """Configurations that the rules select, and for each of the others the reason (name -> sentence)."""

    planned: dict[str, Resolution] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def select(self, wanted: Sequence[str] | None) -> dict[str, Resolution]:
        """Return the wanted configurations, or all for None.

        Raises:
            InputError: the rules do not select a wanted configuration, or the cascade is wanted without the configurations that it needs.
        """
        chosen = {name: self.planned[name] for name in self.planned if wanted is None or name in wanted}
        faults = [
            Fault(f"--configurations {name}", self.missing[name].rstrip("."), f"Choose from {', '.join(self.planned)}")
            for name in wanted or ()
            if name in self.missing
        ]
        for name, resolution in chosen.items():
            needed = [other for other in (resolution.previous, resolution.cases_of) if other and other not in chosen]
            if needed:
                remedy = f"Add {' and '.join(needed)}, or leave {name} out"
                faults.append(Fault(f"--configurations {name}", f"this configuration needs {' and '.join(needed)}", remedy))
        raise_faults(faults)
        return chosen


def choose_slice_axis(grid: Grid) -> Decision[int]:
    """Choose the axis across slices: an axis with a single voxel if there is one, otherwise the coarsest."""
    single = [axis for axis in range(3) if grid.median[axis] == 1]
    axis = single[0] if single else grid.axes[0]
    why = "along which the median case has one voxel" if single else f"the coarsest of {times(grid.spacing)} mm"
    return Decision(axis, f"Slices across axis {'ZYX'[axis]}, {why}; cases keep their own spacing along it.")


def choose_resolutions(full: Grid, size: Size, patch_size: Shape | None, sample: Callable[[Resolution], Sampling]) -> Resolutions:
    """Choose the configurations of a dataset from its grid at full resolution; `sample` plans the patch of the baseline.

    A patch that the user requests is at full resolution; it applies to slices if it has one voxel across them.
    """
    slice_axis = choose_slice_axis(full)
    is_flat = full.median[slice_axis.value] == 1
    slices = Resolution(
        replace(full, slice_axis=slice_axis.value),
        choose_skeleton(size, slices=True),
        Decision(True, "Dice over the whole batch, because slices are small and many."),
        {"slice_axis": slice_axis.reason},
        patch_size if patch_size and patch_size[slice_axis.value] == 1 else None,
    )
    if is_flat:
        return Resolutions(
            {SLICES: slices}, dict.fromkeys((LOWER, FULL, CASCADE), "No volumes: the median case is a single slice.")
        )
    return _with_volumes(full, size, patch_size, sample, slices)


def _with_volumes(
    full: Grid, size: Size, patch_size: Shape | None, sample: Callable[[Resolution], Sampling], slices: Resolution
) -> Resolutions:
    skeleton = choose_skeleton(size, slices=False)
    whole = Decision(False, "Dice of each sample, because a patch covers much of an image.")
    volumes = Resolution(full, skeleton, whole, patch_size=patch_size)
    at_full = sample(volumes)
    lower = choose_lower_resolution(full, at_full.patch_size, lambda grid: sample(Resolution(grid, skeleton, whole)))
    if lower.value is None:
        planned = {SLICES: slices, FULL: replace(volumes, reasons={"lower_resolution": lower.reason})}
        return Resolutions(planned, dict.fromkeys((LOWER, CASCADE), lower.reason))
    parts = Decision(True, "Dice over the whole batch, because a patch covers a small part of an image.")
    covered = full.share(at_full.patch_size)
    see = f"A patch covers {covered:.1%} of the median case, so {LOWER} and {CASCADE} are planned as well."
    cascade = f"The network receives the segmentation of {LOWER} together with the image; cases and patches are those of {FULL}."
    planned = {
        SLICES: slices,
        LOWER: Resolution(lower.value, skeleton, whole, {"spacing": lower.reason}),
        FULL: replace(volumes, batch_dice=parts, reasons={"lower_resolution": see}),
        CASCADE: Resolution(full, skeleton, parts, {"cascade": cascade}, patch_size, previous=LOWER, cases_of=FULL),
    }
    return Resolutions(planned)
