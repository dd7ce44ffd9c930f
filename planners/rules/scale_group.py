"""The scale group of `se`, from the spread of structure sizes over cases."""

import math
from collections.abc import Callable, Mapping
from typing import Literal

from configs.errors import Fault, InputError, counted, times
from configs.fingerprint import Shape, SizeSpread, Spacing
from configs.network import Axes, ScaleGroup
from planners.rules.decision import Decision

FAMILY: Literal["se", "pyramid"] = "se"
STEP = 2 ** (1 / 3)  # ratio of neighbouring scales
NARROW = 0.4  # octaves of size below which one scale is enough, where the number of scales follows the spread
WIDEST = 2.0  # octaves of size that are considered
SCALES_PER_OCTAVE = 1.5  # beyond the first scale; half of the range is left to the network's own levels and to augmentation
FEWEST_SCALES, MOST_SCALES = 2, 5  # where there is a group
SMALLEST_SIGMA = 0.9  # voxels of the coarsest axis with kernels: narrower kernels are not well sampled
MIXING = 1  # reach over neighbouring scales
RELATIVE_COST = 1.0  # multiply-adds, as a multiple of the baseline's
BLUR_COST = 1 / 3  # of a multiply-add in a blur, which is a matrix product, against one in a convolution; measured on CPUs
FEWEST_CHANNELS = 8  # at the finest stage: a group that leaves fewer is made smaller
KERNEL_REACH = 2  # sigmas to either side that hold nearly all of a kernel


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
    spread: Decision[float],
    spacing: Spacing,
    kernel: Axes,
    channels: Callable[[ScaleGroup], int],
    number: int | Literal["spread"] | None = None,
    step: float | None = None,
) -> Decision[ScaleGroup]:
    """One scale unless more are asked for: at equal cost several learned worse here (`docs/explanation/choosing_the_architecture.md`).

    By the spread of sizes it is one scale where they hardly vary, else `1 + 1.5 R` scales, rounded, 2 to 5, for R octaves, at most 2: half
    of the range is left to the network's own levels and to augmentation. A group that would leave too few channels is smaller.

    Args:
        spread: of sizes, in octaves.
        spacing: of the planned grid, mm (Z, Y, X).
        kernel: kernel size of the finest stage; axes of size 1 do not limit the smallest sigma.
        channels: of the finest stage with a group.
        number: of scales, asked for by the user; `spread` leaves it to the spread of sizes; None is one.
        step: ratio of neighbouring scales, asked for by the user.
    """
    coarsest = max(length for length, size in zip(spacing, kernel, strict=True) if size > 1)
    wanted = _wanted_scales(spread, number)
    group = ScaleGroup(smallest_sigma=SMALLEST_SIGMA * coarsest, step=step or STEP, number=wanted.value)
    why = wanted.reason
    while number == "spread" and group.number > 1 and channels(group) < FEWEST_CHANNELS:
        group = group.model_copy(update={"number": group.number - 1})
        why = f"{wanted.reason}; {wanted.value} would leave fewer than {FEWEST_CHANNELS} channels at the finest stage"
    span = f"sigma {group.sigmas[0]:.3g} mm"
    if group.number > 1:
        span = f"sigma {group.sigmas[0]:.3g} to {group.sigmas[-1]:.3g} mm in steps of {group.step:.3g}"
    sampled = f"the smallest is {SMALLEST_SIGMA} voxels of the coarsest axis with kernels ({coarsest:.4g} mm)"
    return Decision(group, f"{counted(group.number, 'scale')}, {span}: {why}; {sampled}.")


def _wanted_scales(spread: Decision[float], number: int | Literal["spread"] | None) -> Decision[int]:
    if number is None:
        return Decision(1, f"{spread.reason}; at equal cost one scale learned best in all that was measured")
    if number != "spread":
        return Decision(number, "as asked for")
    octaves = min(max(spread.value, 0.0), WIDEST)
    if octaves < NARROW:
        return Decision(1, f"{spread.reason}, below {NARROW}")
    return Decision(min(max(1 + round(SCALES_PER_OCTAVE * octaves), FEWEST_SCALES), MOST_SCALES), spread.reason)


def check_width(group: ScaleGroup, spacing: Spacing, patch_size: Shape, kernel: Axes) -> None:
    """A scale whose kernels are wider than the patch sees nothing but its border.

    Raises:
        InputError: kernels of the largest scale, two sigma to either side, span more than the longest axis of the patch.
    """
    span = 2 * KERNEL_REACH * group.sigmas[-1]
    longest = max(length * size for length, size, taps in zip(spacing, patch_size, kernel, strict=True) if taps > 1)
    if group.number == 1 or span <= longest:
        return
    problem = (
        f"kernels of the largest scale span {span:.3g} mm (sigma {group.sigmas[-1]:.3g} mm), the patch {times(patch_size)} "
        f"only {longest:.3g} mm"
    )
    option = f"--num-scales {group.number} with steps of {group.step:.3g}"
    raise InputError(Fault(option, problem, "Take fewer scales, a smaller --scale-step, or a larger --patch-size"))
