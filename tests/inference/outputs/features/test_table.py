"""Features of intensity against SciPy, and the table of a case."""

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from configs.dataset import DatasetDescription
from inference.outputs.features.intensity import INTENSITY, intensity_features
from inference.outputs.features.shape import SHAPE
from inference.outputs.features.table import measure_features, write_features
from preprocessing.dataset.by_products import FEATURES
from preprocessing.geometry.affine import Geometry
from preprocessing.tables import gather

LABELS = DatasetDescription(name="toy", channels=("MR", "MR"), labels={"background": 0, "kidney": 5, "cyst": 9, "stone": 11})
GRID = Geometry.from_spacing((12, 20, 16), (2.0, 1.0, 0.5))


def case() -> tuple[np.ndarray, np.ndarray]:
    labels = np.zeros(GRID.shape, np.uint8)
    labels[2:6, 3:9, 4:12], labels[8:11, 12:18, 2:5], labels[8, 1, 1] = 5, 5, 9
    return labels, np.random.default_rng(0).normal(100, 10, (2, *GRID.shape)).astype(np.float32)


def test_intensities_agree_with_scipy() -> None:
    values = np.random.default_rng(0).gamma(2, 50, 1000).astype(np.float32)
    found = intensity_features(values)
    assert list(found) == list(INTENSITY)
    assert found["Mean"] == pytest.approx(values.mean(dtype=float)) and found["StandardDeviation"] == pytest.approx(
        stats.tstd(values, ddof=0)
    )
    assert found["Skewness"] == pytest.approx(stats.skew(values)) and found["Kurtosis"] == pytest.approx(
        stats.kurtosis(values, fisher=False)
    )
    assert found["InterquartileRange"] == pytest.approx(stats.iqr(values)) and found["Median"] == np.median(values)
    assert found["10Percentile"] == pytest.approx(np.percentile(values, 10)) and found["Maximum"] == values.max()
    assert found["RootMeanSquared"] == pytest.approx(np.sqrt(np.mean(values.astype(float) ** 2)))
    even = intensity_features(np.full(5, 7.0, np.float32))
    assert even["Skewness"] is even["Kurtosis"] is None and even["StandardDeviation"] == 0 and even["90Percentile"] == 7


def test_each_label_in_each_channel() -> None:
    labels, image = case()
    found = measure_features(labels, image, GRID, LABELS)
    assert [(one.label, one.channel) for one in found] == [
        (label, f"MR (channel {channel})") for label in ("kidney", "cyst", "stone") for channel in (0, 1)
    ]
    kidney, other, cyst, _, stone, _ = (one.features for one in found)
    assert kidney["VoxelVolume"] == np.count_nonzero(labels == 5) and kidney["MeshVolume"] == other["MeshVolume"]
    assert kidney["Mean"] == pytest.approx(image[0][labels == 5].mean(dtype=float)) != other["Mean"]
    assert cyst["VoxelVolume"] == 1 and cyst["Elongation"] is None
    assert stone["VoxelVolume"] == 0 and stone["Mean"] is stone["MeshVolume"] is None
    assert {one.label for one in measure_features(labels, image, GRID, LABELS, ["cyst"])} == {"cyst"}


def test_how_the_image_is_stored_changes_nothing() -> None:
    labels, image = case()
    turned = Geometry.from_spacing((16, 20, 12), (0.5, 1.0, 2.0))
    one = measure_features(labels, image, GRID, LABELS, ["kidney"])[0].features
    other = measure_features(labels.T, image.transpose(0, 3, 2, 1), turned, LABELS, ["kidney"])[0].features
    assert one == pytest.approx(other, rel=1e-5)


def test_the_table_of_a_folder(tmp_path: Path) -> None:
    labels, image = case()
    for name in "ab":
        write_features(tmp_path / f"{name}_features.csv", name, measure_features(labels, image, GRID, LABELS))
    gathered = gather(tmp_path, ["a", "b", "none"], FEATURES)
    assert gathered is not None
    with gathered.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == ["a"] * 6 + ["b"] * 6
    assert list(rows[0]) == ["case", "label", "channel", *SHAPE, *INTENSITY]
    assert rows[4]["label"] == "stone" and rows[4]["VoxelVolume"] == "0.0" and rows[4]["Mean"] == ""
    assert gather(tmp_path, ["none"], FEATURES) is None
