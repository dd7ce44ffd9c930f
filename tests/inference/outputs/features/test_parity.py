"""The same numbers as PyRadiomics 3.0.1, recorded for a body and an image that formulas give."""

import numpy as np
import pytest

from inference.outputs.features.intensity import INTENSITY, intensity_features
from inference.outputs.features.shape import SHAPE, shape_features

SPACING = (2.5, 0.8, 0.8)
RECORDED = {
    "MeshVolume": 3390.8666666667027,
    "VoxelVolume": 3422.4,
    "SurfaceArea": 1414.6921029048378,
    "SurfaceVolumeRatio": 0.41720664419268116,
    "Sphericity": 0.7715475040474972,
    "Maximum3DDiameter": 28.577088725060854,
    "MajorAxisLength": 25.244442764798972,
    "MinorAxisLength": 17.26687720251825,
    "LeastAxisLength": 12.147525275734658,
    "Elongation": 0.6839872586371882,
    "Flatness": 0.4811960156503535,
    "Mean": 170.62599345488547,
    "Median": 171.0,
    "Minimum": 114.0,
    "Maximum": 218.0,
    "StandardDeviation": 21.28809919315377,  # the root of its Variance
    "10Percentile": 142.0,
    "90Percentile": 198.20000000000005,
    "InterquartileRange": 30.0,
    "RootMeanSquared": 171.9488668462929,
    "Skewness": -0.1362423386705908,
    "Kurtosis": 2.530433800526449,
}


def test_every_feature_is_that_of_pyradiomics() -> None:
    z, y, x = np.indices((14, 30, 32)).astype(np.float32)
    body = ((z - 6) / 5) ** 2 + ((y - 12) / 9) ** 2 + ((x - 13) / 8) ** 2 < 1
    body |= ((z - 8) / 3) ** 2 + ((y - 20) / 7) ** 2 + ((x - 21) / 9) ** 2 < 1
    image = (100 + 7 * z + 3 * ((5 * y + 11 * x) % 17)).astype(np.float32)
    found = shape_features(body, SPACING) | intensity_features(image[body])
    assert list(RECORDED) == [*SHAPE, *INTENSITY]
    assert found == pytest.approx(RECORDED, rel=1e-6)
