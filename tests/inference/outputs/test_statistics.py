"""Numbers of each label, against an independent implementation."""

import csv
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from configs.dataset import DatasetDescription
from inference.outputs.statistics import measure_labels, write_statistics
from preprocessing.dataset.by_products import STATISTICS
from preprocessing.formats.itk import affine_of
from preprocessing.geometry.affine import Geometry
from preprocessing.tables import gather

LABELS = DatasetDescription(name="toy", channels=("MR",), labels={"background": 0, "kidney": 5, "cyst": 9, "stone": 11})


def test_statistics_agree_with_simpleitk() -> None:
    random = np.random.default_rng(0)
    labels = np.zeros((12, 20, 16), np.uint8)
    labels[2:6, 3:9, 4:12], labels[8:11, 12:18, 2:5], labels[8, 1, 1] = 5, 5, 9
    image = random.normal(100, 10, (1, *labels.shape)).astype(np.float32)
    itk = SimpleITK.GetImageFromArray(labels)
    itk.SetSpacing((0.7, 1.1, 2.3))
    itk.SetOrigin((12.0, -34.0, 5.0))
    itk.SetDirection((0, 0, -1, 1, 0, 0, 0, -1, 0))
    measured = measure_labels(labels, image, Geometry.from_affine(labels.shape, affine_of(itk)), LABELS)
    shapes = SimpleITK.LabelIntensityStatisticsImageFilter()
    intensities = SimpleITK.GetImageFromArray(image[0])
    intensities.CopyInformation(itk)
    shapes.Execute(itk, intensities)
    for name, value in (("kidney", 5), ("cyst", 9)):
        found = measured[name]
        left, posterior, superior = shapes.GetCentroid(value)
        assert (found.centroid_r, found.centroid_a, found.centroid_s) == pytest.approx((-left, -posterior, superior), abs=1e-4)
        assert found.volume_mm3 == pytest.approx(shapes.GetPhysicalSize(value))
        assert found.mean_intensity == pytest.approx(shapes.GetMean(value), rel=1e-5)
        x, y, z, width, height, depth = shapes.GetBoundingBox(value)
        assert (found.first_x, found.first_y, found.first_z) == (x, y, z)
        assert (found.last_x, found.last_y, found.last_z) == (x + width - 1, y + height - 1, z + depth - 1)
    assert measured["kidney"].components == 2 and measured["cyst"].components == 1
    assert measured["stone"].voxels == 0 and measured["stone"].centroid_r is None
    assert list(measure_labels(labels, image, Geometry.from_spacing(labels.shape, (1, 1, 1)), LABELS, ["cyst"])) == ["cyst"]


def test_a_region_is_the_union_of_its_values() -> None:
    description = DatasetDescription(
        name="toy", channels=("MR",), labels={"background": 0, "whole": (1, 2), "core": (2,)}, regions_class_order=(1, 2)
    )
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[1:4], labels[2] = 1, 2
    measured = measure_labels(
        labels, np.zeros((1, 6, 6, 6), np.float32), Geometry.from_spacing(labels.shape, (2, 1, 1)), description
    )
    assert (measured["whole"].volume_mm3, measured["whole"].components, measured["core"].voxels) == (216, 1, 36)


def test_files_of_cases_are_put_together(tmp_path: Path) -> None:
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[0] = 5
    measured = measure_labels(labels, np.ones((1, 4, 4, 4), np.float32), Geometry.from_spacing(labels.shape, (1, 1, 1)), LABELS)
    for case in "ba":
        write_statistics(tmp_path / f"{case}_statistics.csv", {case: measured})
    gathered = gather(tmp_path, ["b", "a", "missing"], STATISTICS)
    assert gathered is not None
    with gathered.open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["label"]) for row in rows] == [
        (case, label) for case in "ab" for label in ("kidney", "cyst", "stone")
    ]
    assert rows[0]["voxels"] == "16" and rows[1]["centroid_r"] == ""
    assert gather(tmp_path / "empty", ["a"], STATISTICS) is None
