"""Choose the spacing, and measure the median case at it. Rules and constants are nnU-Net's (Isensee et al. 2021)."""

import math
from collections.abc import Mapping

import numpy as np

from configs.errors import Fault, InputError, counted, times
from configs.fingerprint import CaseFingerprint, Shape, Spacing
from configs.plan import ConfigurationPlan
from planners.decision import Decision
from preprocessing.geometry.resampled_grid import resampled_shape

_ANISOTROPIC = 3  # ratio of the coarsest axis to the others from which slices count as thick
_FEWEST_VOXELS, _MOST_VOXELS = 8, 2e9  # voxels along the longest axis, and in the median case
_THIN_PERCENTILE = 10  # percentile of the spacings along the coarse axis; cases with thin slices then keep most of them


def choose_spacing(cases: Mapping[str, CaseFingerprint]) -> Decision[Spacing]:
    """Choose the median spacing of each axis; for thick slices, the 10th percentile along the coarse axis.

    Slices count as thick if the coarsest median spacing is more than three times the others and the median image has more than three times
    fewer voxels along that axis than along the others.
    """
    spacings = np.array([case.spacing for case in cases.values()])
    median = np.median(spacings, axis=0)
    sizes = np.median([case.shape_after_crop for case in cases.values()], axis=0)
    coarse = int(np.argmax(median))
    others = [axis for axis in range(3) if axis != coarse]
    next_coarsest = median[others].max()
    reason = f"the median of {counted(len(cases), 'case')} on each axis"
    if median[coarse] > _ANISOTROPIC * next_coarsest and sizes[coarse] * _ANISOTROPIC < sizes[others].min():
        thin = np.percentile(spacings[:, coarse], _THIN_PERCENTILE)
        if thin < median[coarse]:
            reason += (
                f", and on axis {'ZYX'[coarse]} the {_THIN_PERCENTILE}th percentile {thin:.4g} instead of the median "
                f"{median[coarse]:.4g}, because slices are thick ({times(median)} mm, {times(sizes)} voxels)"
            )
        median[coarse] = thin if thin >= next_coarsest else next_coarsest + 1e-5
    z, y, x = (float(size) for size in median)
    return Decision((z, y, x), f"Spacing {times((z, y, x))} mm: {reason}.")


def check_spacing(spacing: Spacing, median: tuple[float, float, float]) -> None:
    """Check a spacing requested by the user.

    Raises:
        InputError: at this spacing, the median case has too few or too many voxels.
    """
    option = f"--spacing {' '.join(f'{length:g}' for length in spacing)}"
    if max(median) < _FEWEST_VOXELS:
        problem = f"the median case has {times(median)} voxels at this spacing, fewer than {_FEWEST_VOXELS} along every axis"
        raise InputError(Fault(option, problem, "Give smaller lengths, in mm for Z, Y and X"))
    if math.prod(median) > _MOST_VOXELS:
        gigabytes = 4 * math.prod(median) / 1e9
        problem = f"the median case has {times(median)} voxels at this spacing, {gigabytes:.0f} GB for each channel"
        raise InputError(Fault(option, problem, "Give larger lengths, in mm for Z, Y and X"))


def median_shape(cases: Mapping[str, CaseFingerprint], spacing: Spacing) -> tuple[float, float, float]:
    """Return the median over cases of the voxels (Z, Y, X) after cropping and resampling, possibly half-integer."""
    shapes = [resampled_shape(case.shape_after_crop, case.spacing, spacing) for case in cases.values()]
    z, y, x = (float(size) for size in np.median(shapes, axis=0))
    return z, y, x


def prepared_shape(case: CaseFingerprint, configuration: ConfigurationPlan) -> Shape:
    """Return the voxels (Z, Y, X) of a case that is cropped and resampled as planned; it is measured in the plan's orientation."""
    return resampled_shape(case.shape_after_crop, case.spacing, configuration.grid_spacing(case.spacing))


def median_relative_size(cases: Mapping[str, CaseFingerprint]) -> float:
    """Return the median over cases of the share of voxels that remains after cropping to nonzero."""
    return float(np.median([case.relative_size_after_crop for case in cases.values()]))


def whole_voxels(shape: tuple[float, float, float]) -> Shape:
    """Return the shape in whole voxels, at least 1."""
    z, y, x = (max(1, round(size)) for size in shape)
    return z, y, x
