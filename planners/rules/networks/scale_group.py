"""Choose the scale group of `se`."""

import math
from collections.abc import Callable, Mapping
from typing import Literal

from configs.errors import Fault, InputError, counted, times
from configs.fingerprint import Shape, SizeSpread, Spacing
from configs.network import Axes, ScaleGroup
from planners.decision import Decision

FAMILY: Literal["se", "pyramid"] = "se"
STEP = 2 ** (1 / 3)  # ratio of neighbouring scales
NARROW = 0.4  # octaves of size below which `spread` chooses one scale
WIDEST = 2.0  # octaves of size above which a wider spread adds no scales
SCALES_PER_OCTAVE = 1.5  # beyond the first scale; the network's own levels and augmentation cover half of the range
FEWEST_SCALES, MOST_SCALES = 2, 5  # of a group that `spread` chooses
SMALLEST_SIGMA = 0.9  # voxels of the coarsest axis with kernels; narrower kernels are not well sampled
MIXING = 1  # reach of the mixing over neighbouring scales
RELATIVE_COST = 1.0  # multiply-adds relative to the baseline
BLUR_COST = 1 / 3  # cost of a multiply-add in a blur, a matrix product, relative to one in a convolution; measured on CPUs
FEWEST_CHANNELS = 8  # channels at the finest stage that a group chosen by `spread` must leave
KERNEL_REACH = 2  # half-width, in sigmas, that holds nearly all of a kernel


def widest_spread(spreads: Mapping[str, SizeSpread]) -> Decision[float]:
    """Return the largest spread of any label's size, `log2(q90 / q10)` in octaves; 0 where no label occurs."""
    octaves = {name: math.log2(spread.q90 / spread.q10) for name, spread in spreads.items()}
    if not octaves:
        return Decision(0.0, "sizes are unknown because no label occurs")
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
    """Choose one scale unless the user requests more by `number`, with the ratio `step` of neighbouring scales.

    At equal cost, several scales learned worse in all measurements (`docs/explanation/choosing_the_architecture.md`).

    With `spread`, sizes that hardly vary get one scale, others `1 + 1.5 R` scales, rounded, 2 to 5, where R is the spread in octaves, at
    most 2. The network's own levels and augmentation cover half of the range. A group that would leave too few `channels` in the finest
    stage is reduced. Axes of that stage along which the kernel has size 1 do not limit the smallest sigma.
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
        return Decision(1, f"{spread.reason}; at equal cost, one scale learned best in all measurements")
    if number != "spread":
        return Decision(number, "as requested")
    octaves = min(max(spread.value, 0.0), WIDEST)
    if octaves < NARROW:
        return Decision(1, f"{spread.reason}, below {NARROW}")
    return Decision(min(max(1 + round(SCALES_PER_OCTAVE * octaves), FEWEST_SCALES), MOST_SCALES), spread.reason)


def check_width(group: ScaleGroup, spacing: Spacing, patch_size: Shape, kernel: Axes) -> None:
    """Check that the kernels of the largest scale fit the patch; wider kernels would mostly see the border.

    Raises:
        InputError: kernels of the largest scale, two sigma to either side, span more than the longest axis of the patch.
    """
    span = 2 * KERNEL_REACH * group.sigmas[-1]
    longest = max(length * size for length, size, taps in zip(spacing, patch_size, kernel, strict=True) if taps > 1)
    if group.number == 1 or span <= longest:
        return
    problem = (
        f"kernels of the largest scale span {span:.3g} mm (sigma {group.sigmas[-1]:.3g} mm), but the patch {times(patch_size)} "
        f"spans only {longest:.3g} mm"
    )
    option = f"--num-scales {group.number} with steps of {group.step:.3g}"
    raise InputError(Fault(option, problem, "Use fewer scales, a smaller --scale-step, or a larger --patch-size"))
