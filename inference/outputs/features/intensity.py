"""Features of the intensities of a label, by the definitions and names of PyRadiomics (van Griethuysen et al. 2017, class `firstorder`)."""

import math

import numpy as np
from numpy.typing import NDArray

INTENSITY = (
    "Mean",
    "Median",
    "Minimum",
    "Maximum",
    "StandardDeviation",
    "10Percentile",
    "90Percentile",
    "InterquartileRange",
    "RootMeanSquared",
    "Skewness",
    "Kurtosis",
)


def intensity_features(values: NDArray[np.float32]) -> dict[str, float | None]:
    """Return the features of intensities (N,) in the unit of the image, named as in `INTENSITY`; None where undefined.

    With the mean m and the moments m_k = mean((x - m)^k), the standard deviation is sqrt(m_2), the skewness m_3 / m_2^1.5, and the kurtosis
    m_4 / m_2^2, which is 3 for a normal distribution. Both are undefined where all values are equal.
    """
    if not values.size:
        return dict.fromkeys(INTENSITY)
    low, tenth, quarter, middle, three_quarters, ninetieth, high = np.percentile(values, (0, 10, 25, 50, 75, 90, 100)).tolist()
    mean = float(values.mean(dtype=np.float64))
    differences = values.astype(np.float64) - mean
    second, third, fourth = (float((differences**power).mean()) for power in (2, 3, 4))
    varies = high > low
    features = (
        mean,
        middle,
        low,
        high,
        math.sqrt(second),
        tenth,
        ninetieth,
        three_quarters - quarter,
        math.sqrt(second + mean**2),
        third / second**1.5 if varies else None,
        fourth / second**2 if varies else None,
    )
    return dict(zip(INTENSITY, features, strict=True))
