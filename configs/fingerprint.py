"""The fingerprint of a dataset: the measurements that planning is based on."""

from pydantic import Field

from configs.errors import Fault
from configs.files import Value

Spacing = tuple[float, float, float]
Shape = tuple[int, int, int]


class IntensityStatistics(Value):
    """Intensities of one channel over the foreground voxels of all cases."""

    mean: float
    std: float = Field(ge=0)
    median: float
    min: float
    max: float
    percentile_00_5: float
    percentile_99_5: float


class IntensityHistogram(Value):
    """Histogram of one channel over the foreground voxels of all cases, with equal weight for each case.

    Attributes:
        low, high: ends of the range, which is divided into bins of equal width.
        counts: number of sampled voxels in each bin.
        below, above: number of sampled voxels outside the range.
    """

    low: float
    high: float
    counts: tuple[int, ...] = Field(min_length=1)
    below: int = Field(ge=0)
    above: int = Field(ge=0)


class IntensityQuantiles(Value):
    """Intensities of one channel over the foreground voxels of one case."""

    q05: float
    q50: float
    q95: float


class LabelSizes(Value):
    """Size of one label in one case.

    Attributes:
        voxels: number of voxels.
        volume: mm^3.
        component_volumes: mm^3 of the connected components (26 neighbours), largest first, at most 100.
        components: number of connected components.
    """

    voxels: int = Field(ge=0)
    volume: float = Field(ge=0)
    component_volumes: tuple[float, ...]
    components: int = Field(ge=0)


class CaseFingerprint(Value):
    """Measurements of one case in canonical axis order (Z, Y, X).

    Attributes:
        spacing: voxel size in mm.
        shape: voxels of the stored image.
        shape_after_crop: voxels of the nonzero bounding box.
        relative_size_after_crop: share of all voxels that the bounding box holds.
        labels: label name -> sizes.
        intensities: quantiles of each channel over foreground voxels; empty without foreground.
    """

    spacing: Spacing
    shape: Shape
    shape_after_crop: Shape
    relative_size_after_crop: float = Field(gt=0, le=1)
    labels: dict[str, LabelSizes]
    intensities: tuple[IntensityQuantiles, ...] = ()


class SizeSpread(Value):
    """Quantiles of a label's equivalent diameter over cases, in mm: of its whole volume or of its components weighted by volume,
    whichever spread is wider."""

    q10: float
    q50: float
    q90: float


class Fingerprint(Value):
    """Measurements of all cases of a dataset.

    Attributes:
        cases: case identifier -> measurements.
        intensities: statistics of each channel over foreground voxels; empty where no case has foreground.
        size_spread: label name -> spread of sizes, without labels that never occur.
        histograms: histogram of each channel; empty where no case has foreground.
        warnings: findings of validation that may be correct, but should be checked.
    """

    cases: dict[str, CaseFingerprint] = Field(min_length=1)
    intensities: tuple[IntensityStatistics, ...]
    size_spread: dict[str, SizeSpread]
    histograms: tuple[IntensityHistogram, ...] = ()
    warnings: tuple[Fault, ...] = ()
