"""When a patch sees too little of an image: a coarser grid. Rules and constants are nnU-Net's (Isensee et al. 2021)."""

import math
from collections.abc import Callable
from dataclasses import replace

from configs.errors import times
from configs.fingerprint import Shape, Spacing
from planners.rules.decision import Decision
from planners.rules.patch import Grid, Sampling

_SMALLEST_SHARE = 0.25  # of the median case, below which a patch sees too little of it
_STEP = 1.03  # spacings grow by this factor
_ALIKE = 2  # axes that are finer than the coarsest by more than this factor grow alone
_SMALLEST_GAIN = 2  # full resolution must have this many times the voxels


def choose_lower_resolution(full: Grid, patch_size: Shape, sample: Callable[[Grid], Sampling]) -> Decision[Grid | None]:
    """A grid on which a patch covers at least a quarter of the median case; None where that is so at full resolution.

    Spacings grow by 3 % at a time, those of axes that are more than twice as fine as the coarsest first. A grid with more than half
    of the voxels is no use, and dropped.

    Args:
        full: the grid at full resolution.
        patch_size: the patch there.
        sample: plans the patch on a grid.
    """
    share = full.share(patch_size)
    if share >= _SMALLEST_SHARE:
        reason = f"No lower resolution: a patch covers {share:.0%} of the median case, at least {_SMALLEST_SHARE:.0%}."
        return Decision(None, reason)
    grid, covered = full, share
    while covered < _SMALLEST_SHARE:
        grid = _at_spacing(full, _coarser(grid.spacing))
        covered = math.prod(sample(grid).patch_size) / grid.median_voxels
    gain = full.median_voxels / grid.median_voxels
    found = f"at full resolution a patch covers {share:.1%} of the median case, below {_SMALLEST_SHARE:.0%}"
    if gain < _SMALLEST_GAIN:
        saved = f"at {times(grid.spacing)} mm it would cover {covered:.0%}, but save less than half of the voxels"
        return Decision(None, f"No lower resolution: {found}; {saved}.")
    reached = f"made coarser in steps of 3 % until it covers {covered:.0%}, with {gain:.3g} times fewer voxels"
    return Decision(grid, f"Spacing {times(grid.spacing)} mm: {found}; {reached}.")


def _coarser(spacing: Spacing) -> Spacing:
    coarsest = max(spacing)
    fine = [coarsest / length > _ALIKE for length in spacing]
    z, y, x = (length * _STEP if is_fine or not any(fine) else length for length, is_fine in zip(spacing, fine, strict=True))
    return z, y, x


def _at_spacing(full: Grid, spacing: Spacing) -> Grid:
    """The same cases at a coarser spacing."""
    sizes = [size * old / new for size, old, new in zip(full.median, full.spacing, spacing, strict=True)]
    z, y, x = (float(round(size)) for size in sizes)
    return replace(full, spacing=spacing, median=(z, y, x), voxels=math.prod(sizes))
