"""What experiments decide about `se`, in one place; all else follows from the data.

What is chosen here, and the residual encoder with a light decoder (`planners.se_network`), learned best of what was tried: one scale,
unless more are asked for; without mixing of neighbouring scales a group hardly learns. The experiments are told in `docs/learning.md`.
"""

from typing import Literal

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
