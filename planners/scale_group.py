"""The scale group of `se`, from the spread of structure sizes over cases."""

import math
from collections.abc import Mapping

from configs.fingerprint import SizeSpread, Spacing
from configs.network import Axes
from configs.scales import ScaleGroup
from planners.decision import Decision, counted

DEFAULT_STEP = 2 ** (1 / 3)
_NARROW = 0.4  # octaves: below, all cases show structures of about one size
_WIDEST = 2.0  # octaves that are considered
_MOST_SCALES = 5
_SMALLEST_SIGMA = 0.9  # voxels: smaller kernels are not well sampled


def widest_spread(spreads: Mapping[str, SizeSpread]) -> Decision[float]:
    """The largest spread of any label's size, `log2(q90 / q10)` in octaves; 0 where no label has a size."""
    octaves = {name: math.log2(spread.q90 / spread.q10) for name, spread in spreads.items()}
    if not octaves:
        return Decision(0.0, "no label occurs, so sizes are not known")
    name = max(octaves, key=lambda label: octaves[label])
    spread = spreads[name]
    sentence = f"sizes vary most for {name}: {spread.q10:.3g} to {spread.q90:.3g} mm (q10 to q90), {octaves[name]:.2f} octaves"
    return Decision(octaves[name], sentence)


def choose_scale_group(
    spread: Decision[float], spacing: Spacing, kernel: Axes, number: int | None = None, step: float | None = None
) -> Decision[ScaleGroup]:
    """One scale where sizes hardly vary, else `1 + round(3 R / 2)` scales, 2 to 5, for a spread of R octaves, at most 2.

    Args:
        spread: of sizes, in octaves.
        spacing: of the planned grid, mm (Z, Y, X).
        kernel: kernel size of the finest stage; axes of size 1 do not limit the smallest sigma.
        number: of scales, asked for by the user.
        step: ratio of neighbouring scales, asked for by the user.
    """
    octaves = min(max(spread.value, 0.0), _WIDEST)
    if number is not None:
        chosen, why = number, "as asked for"
    elif octaves < _NARROW:
        chosen, why = 1, f"{spread.reason}, below {_NARROW}"
    else:
        chosen, why = min(max(1 + round(3 * octaves / 2), 2), _MOST_SCALES), spread.reason
    coarsest = max(length for length, size in zip(spacing, kernel, strict=True) if size > 1)
    group = ScaleGroup(smallest_sigma=_SMALLEST_SIGMA * coarsest, step=step or DEFAULT_STEP, number=chosen)
    span = f"sigma {group.sigmas[0]:.3g} mm"
    if chosen > 1:
        span = f"sigma {group.sigmas[0]:.3g} to {group.sigmas[-1]:.3g} mm in steps of {group.step:.3g}"
    sampled = f"the smallest is {_SMALLEST_SIGMA} voxels of the coarsest axis with kernels ({coarsest:.4g} mm)"
    return Decision(group, f"{counted(chosen, 'scale')}, {span}: {why}; {sampled}.")
