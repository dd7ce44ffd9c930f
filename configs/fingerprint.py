"""The fingerprint of a dataset: the measurements that planning is based on."""

from pydantic import Field, model_validator

from configs.errors import Fault
from configs.files import Value

Spacing = tuple[float, float, float]
Shape = tuple[int, int, int]
Vector = tuple[float, float, float]
Directions = tuple[Vector, Vector, Vector]  # unit vectors (right, anterior, superior) of the voxel axes x, y and z


class IntensityStatistics(Value):
    """Intensities of one channel over the foreground voxels of all cases."""

    mean: float
    std: float = Field(ge=0)
    median: float
    min: float
    max: float
    percentile_00_5: float
    percentile_99_5: float

    @model_validator(mode="after")
    def _percentiles_ascend(self) -> "IntensityStatistics":
        if self.percentile_00_5 > self.percentile_99_5:
            raise ValueError(f"the percentiles must ascend, not {self.percentile_00_5} .. {self.percentile_99_5}")
        return self


class IntensityHistogram(Value):
    """Histogram of one channel over the foreground voxels of all cases, with equal weight for each case."""

    low: float  # lower end of the range, which is divided into bins of equal width
    high: float  # upper end of the range
    counts: tuple[int, ...] = Field(min_length=1)  # sampled voxels in each bin
    below: int = Field(ge=0)  # sampled voxels below the range
    above: int = Field(ge=0)  # sampled voxels above it


class IntensityQuantiles(Value):
    """Intensities of one channel over the foreground voxels of one case."""

    q05: float
    q50: float
    q95: float


class LabelSizes(Value):
    """Size of one label in one case."""

    voxels: int = Field(ge=0)  # number of voxels
    volume: float = Field(ge=0)  # mm^3
    component_volumes: tuple[float, ...]  # mm^3 of the connected components (26 neighbours), largest first, at most 100
    components: int = Field(ge=0)  # number of connected components


class CaseFingerprint(Value):
    """Measurements of one case in canonical axis order (Z, Y, X)."""

    spacing: Spacing  # voxel size in mm
    shape: Shape  # voxels of the whole image
    shape_after_crop: Shape  # voxels of the nonzero bounding box
    relative_size_after_crop: float = Field(gt=0, le=1)  # share of all voxels that the bounding box holds
    labels: dict[str, LabelSizes]  # label name -> sizes
    intensities: tuple[IntensityQuantiles, ...] = ()  # quantiles of each channel over foreground voxels; empty without foreground
    directions: Directions = ((1, 0, 0), (0, 1, 0), (0, 0, 1))  # of the axes x, y and z in the patient


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
