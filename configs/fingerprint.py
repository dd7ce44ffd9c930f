"""What a dataset looks like: the numbers that planning starts from."""

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
    """How intensities of one channel are spread over the foreground voxels of all cases, each case counting the same.

    Attributes:
        low, high: ends of the bins, which are equally wide.
        counts: of a sample of voxels, one for each bin.
        below, above: voxels of the sample beyond the bins.
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
    """One label in one case.

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
    """One case in canonical axis order (Z, Y, X).

    Attributes:
        spacing: mm.
        shape: voxels of the stored image.
        shape_after_crop: voxels of its nonzero bounding box.
        relative_size_after_crop: cropped voxels divided by all voxels.
        labels: label name -> sizes.
        intensities: per channel, over foreground voxels; empty where there is none.
    """

    spacing: Spacing
    shape: Shape
    shape_after_crop: Shape
    relative_size_after_crop: float = Field(gt=0, le=1)
    labels: dict[str, LabelSizes]
    intensities: tuple[IntensityQuantiles, ...] = ()


class SizeSpread(Value):
    """Robust spread of a label's equivalent diameter over cases, in mm: of its whole volume or of its components
    weighted by volume, whichever is wider."""

    q10: float
    q50: float
    q90: float


class Fingerprint(Value):
    """All cases of a dataset, and what planning needs of them together.

    Attributes:
        cases: case identifier -> its numbers.
        intensities: per channel, in channel order, over foreground voxels.
        size_spread: label name -> spread of sizes; labels that never occur are left out.
        histograms: per channel, in channel order; empty where no case has foreground.
        warnings: what validation found that may be right, but is worth a look.
    """

    cases: dict[str, CaseFingerprint] = Field(min_length=1)
    intensities: tuple[IntensityStatistics, ...]
    size_spread: dict[str, SizeSpread]
    histograms: tuple[IntensityHistogram, ...] = ()
    warnings: tuple[Fault, ...] = ()
