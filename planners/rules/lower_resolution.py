"""Choose a coarser grid where a patch covers too little of an image. Rules and constants are nnU-Net's (Isensee et al. 2021)."""

import math
from collections.abc import Callable
from dataclasses import replace

from configs.errors import times
from configs.fingerprint import Shape, Spacing
from planners.decision import Decision
from planners.rules.patch import Grid, Sampling

_SMALLEST_SHARE = 0.25  # a patch that covers less of the median case sees too little of it
_STEP = 1.03  # factor by which spacings grow
_ALIKE = 2  # axes that are finer than the coarsest by more than this factor grow first
_SMALLEST_GAIN = 2  # full resolution must have this many times the voxels of the coarser grid


def choose_lower_resolution(full: Grid, patch_size: Shape, sample: Callable[[Grid], Sampling]) -> Decision[Grid | None]:
    """Choose a grid on which a patch covers at least a quarter of the median case, or None if it does so at full resolution.

    Spacings grow in steps of 3 %, first those of axes that are more than twice as fine as the coarsest. A grid that keeps more than half of
    the voxels is not worthwhile, and the result is None as well. `sample` plans the patch on a grid.
    """
    share = full.share(patch_size)
    if share >= _SMALLEST_SHARE:
        reason = f"No lower resolution: a patch covers {share:.0%} of the median case, and {_SMALLEST_SHARE:.0%} is enough."
        return Decision(None, reason)
    grid, covered = full, share
    while covered < _SMALLEST_SHARE:
        grid = _at_spacing(full, _coarser(grid.spacing))
        covered = math.prod(sample(grid).patch_size) / grid.median_voxels
    gain = full.median_voxels / grid.median_voxels
    found = f"at full resolution a patch covers {share:.1%} of the median case, below {_SMALLEST_SHARE:.0%}"
    if gain < _SMALLEST_GAIN:
        saved = f"at {times(grid.spacing)} mm it would cover {covered:.0%}, but more than half of the voxels would remain"
        return Decision(None, f"No lower resolution: {found}; {saved}.")
    reached = f"steps of 3 % make the grid coarser until a patch covers {covered:.0%}, with {gain:.3g} times fewer voxels"
    return Decision(grid, f"Spacing {times(grid.spacing)} mm: {found}; {reached}.")


def _coarser(spacing: Spacing) -> Spacing:
    coarsest = max(spacing)
    fine = [coarsest / length > _ALIKE for length in spacing]
    z, y, x = (length * _STEP if is_fine or not any(fine) else length for length, is_fine in zip(spacing, fine, strict=True))
    return z, y, x


def _at_spacing(full: Grid, spacing: Spacing) -> Grid:
    """Return the grid of the same cases at a coarser spacing."""
    sizes = [size * old / new for size, old, new in zip(full.median, full.spacing, spacing, strict=True)]
    z, y, x = (float(round(size)) for size in sizes)
    return replace(full, spacing=spacing, median=(z, y, x), voxels=math.prod(sizes))
