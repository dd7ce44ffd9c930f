import math
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from configs.dataset import DatasetDescription
from configs.fingerprint import CaseFingerprint, LabelSizes
from planners.fingerprint.measure import _foreground, make_fingerprint, measure_case
from planners.fingerprint.sizes import _component_voxels, label_sizes, size_spreads
from planners.fingerprint.table import fingerprint_table, write_fingerprint_table
from preprocessing.dataset.case import Case
from preprocessing.dataset.raw import open_dataset
from preprocessing.geometry.affine import Geometry
from tests.preprocessing.datasets import LABELS, SHAPE, affine, image, labels, make_dataset, save

PLAIN = DatasetDescription(name="plain", channels=("MR",), labels=LABELS)
REGIONS = DatasetDescription(
    name="regions",
    channels=("MR",),
    labels={"background": 0, "both": (1, 2), "inner": (1,), "ignore": 3},
    regions_class_order=(2, 1),
)


def case(labels, spacing=(2.0, 1.0, 0.5), image=None, description=PLAIN):
    geometry = Geometry.from_spacing(labels.shape, spacing)
    array = np.ones((1, *labels.shape), np.float32) if image is None else image
    return Case("case", array, labels.astype(np.int16), geometry)


@pytest.fixture
def two_blocks():
    labels = np.zeros((10, 10, 10), np.int16)
    labels[1:3, 1:3, 1:3] = 2
    labels[6:9, 6:9, 6:9] = 2
    labels[3, 3, 3] = 1  # touches both of the classes by a corner only
    return labels


def test_components_of_labels(two_blocks):
    sizes = label_sizes(case(two_blocks), PLAIN)
    assert sizes["outer"] == LabelSizes(voxels=35, volume=35, component_volumes=(27, 8), components=2)
    assert sizes["inner"].components == sizes["inner"].voxels == 1
    assert label_sizes(case(np.zeros((3, 3, 3))), PLAIN)["inner"] == LabelSizes(
        voxels=0, volume=0, component_volumes=(), components=0
    )


def test_components_of_regions_join_their_labels_and_leave_ignored_voxels_out(two_blocks):
    two_blocks[0, 0, 0] = 3
    sizes = label_sizes(case(two_blocks), REGIONS)
    assert sizes["both"].component_volumes == (27, 9)
    assert set(sizes) == {"both", "inner"}


def fingerprint_of(volumes):
    sizes = LabelSizes(voxels=100, volume=sum(volumes), component_volumes=tuple(volumes), components=len(volumes))
    ones = {"spacing": (1, 1, 1), "shape": (9, 9, 9), "shape_after_crop": (9, 9, 9), "relative_size_after_crop": 1}
    return CaseFingerprint(**ones, labels={"a": sizes})


def ball(diameter):
    return math.pi / 6 * diameter**3


def test_spread_of_diameters():
    cases = {str(index): fingerprint_of([ball(10 + index)]) for index in range(11)}
    spread = size_spreads(cases)["a"]
    assert (spread.q10, spread.q50, spread.q90) == pytest.approx((11, 15, 19))
    alike = size_spreads({str(index): fingerprint_of([ball(12)]) for index in range(5)})["a"]
    assert alike.q10 == pytest.approx(alike.q90) == pytest.approx(12)


def test_specks_do_not_decide_the_spread():
    clean = {str(index): fingerprint_of([ball(20)]) for index in range(4)}
    specks = {str(index): fingerprint_of([ball(20)] + [ball(1)] * 50) for index in range(4)}
    assert size_spreads(specks)["a"].model_dump() == pytest.approx(size_spreads(clean)["a"].model_dump(), rel=0.01)
    lesions = {str(index): fingerprint_of([ball(20), ball(18), ball(10), ball(9)]) for index in range(4)}
    spread = size_spreads(lesions)["a"]
    assert spread.q90 / spread.q10 > 1.2  # one volume per case would see none


def test_spacing_scales_sizes_only(two_blocks):
    once = measure_case(case(two_blocks), PLAIN, 10).fingerprint
    doubled = measure_case(case(two_blocks, (4.0, 2.0, 1.0)), PLAIN, 10).fingerprint
    assert doubled.labels["outer"].volume == 8 * once.labels["outer"].volume
    assert doubled.labels["outer"].voxels == once.labels["outer"].voxels


def test_case_is_measured_in_canonical_order_after_the_crop():
    image = np.zeros((1, 6, 8, 10), np.float32)
    image[0, 1:5, 2:7, 3:9] = 1
    turned = Geometry.from_affine((6, 8, 10), affine((0.5, 1, 3), (0, math.pi / 2, 0)))
    labels = np.zeros((6, 8, 10), np.int16)
    fingerprint = measure_case(Case("a", image, labels, turned), PLAIN, 10).fingerprint
    assert fingerprint.spacing == pytest.approx((0.5, 1, 3))
    assert fingerprint.shape == (10, 8, 6) and fingerprint.shape_after_crop == (6, 5, 4)
    assert fingerprint.relative_size_after_crop == pytest.approx(120 / 480)


def test_dataset_statistics_are_of_the_foreground(tmp_path):
    dataset = open_dataset(make_dataset(tmp_path / "data", cases=3))
    fingerprint = make_fingerprint(dataset)
    assert fingerprint == make_fingerprint(dataset)
    assert list(fingerprint.cases) == ["case_0", "case_1", "case_2"]
    statistics = fingerprint.intensities[0]
    assert statistics.min >= 1 and statistics.max <= 100
    assert statistics.mean == pytest.approx(50.5, abs=1.5) and statistics.std == pytest.approx(99 / 12**0.5, abs=1.5)
    assert statistics.min <= statistics.percentile_00_5 < 5 and 95 < statistics.percentile_99_5 <= statistics.max
    assert fingerprint.size_spread["inner"].q50 == pytest.approx((6 / math.pi * 24) ** (1 / 3))
    for quantiles in (case.intensities[0] for case in fingerprint.cases.values()):
        assert 1 <= quantiles.q05 < 15 < 35 < quantiles.q50 < 65 < 85 < quantiles.q95 <= 100
    assert type(fingerprint).model_validate_json(fingerprint.model_dump_json()) == fingerprint


def test_histogram_counts_every_sample_within_the_percentiles_or_beyond(tmp_path):
    fingerprint = make_fingerprint(open_dataset(make_dataset(tmp_path / "data", cases=2)))
    (histogram,), (statistics,) = fingerprint.histograms, fingerprint.intensities
    assert (histogram.low, histogram.high) == (statistics.percentile_00_5, statistics.percentile_99_5)
    total = sum(histogram.counts) + histogram.below + histogram.above
    assert total == pytest.approx(1_000_000, rel=0.01)
    assert 0 < histogram.below <= 0.006 * total and 0 < histogram.above <= 0.006 * total
    thirds = np.array(histogram.counts).reshape(3, -1).sum(axis=1)  # of uniform noise
    assert thirds == pytest.approx(total / 3, rel=0.2)


def test_warnings_of_validation_are_kept(tmp_path):
    folder = make_dataset(tmp_path / "data", cases=3)
    save(folder / "imagesTr/case_1_0000.nii.gz", np.full(SHAPE, 7, np.float32))
    save(folder / "labelsTr/case_2.nii.gz", np.zeros(SHAPE, np.uint8))
    fingerprint = make_fingerprint(open_dataset(folder))
    assert [warning.where for warning in fingerprint.warnings] == ["case `case_1`", "case `case_2`"]
    assert "is 7 everywhere" in fingerprint.warnings[0].problem and "only background" in fingerprint.warnings[1].problem
    assert fingerprint.cases["case_2"].intensities == () and fingerprint.cases["case_1"].intensities[0].q50 == 7
    assert type(fingerprint).model_validate_json(fingerprint.model_dump_json()) == fingerprint


def test_constant_foreground_has_a_histogram(tmp_path):
    folder = make_dataset(tmp_path / "data", cases=1)
    save(folder / "imagesTr/case_0_0000.nii.gz", np.full(SHAPE, 7, np.float32))
    (histogram,) = make_fingerprint(open_dataset(folder)).histograms
    assert histogram.low < 7 < histogram.high and sum(histogram.counts) == 1_000_000


def test_histogram_is_not_squeezed_by_images_of_another_range(tmp_path):
    folder = make_dataset(tmp_path / "data", cases=5)
    save(folder / "imagesTr/case_4_0000.nii.gz", 1000 * image(4))
    (histogram,) = make_fingerprint(open_dataset(folder)).histograms
    assert histogram.high < 400 and histogram.above == pytest.approx(0.2 * 1_000_000, rel=0.1)


def test_table_has_a_row_for_each_case(tmp_path):
    fingerprint = make_fingerprint(open_dataset(make_dataset(tmp_path / "data", cases=3)))
    write_fingerprint_table(tmp_path / "fingerprint.csv", fingerprint)
    table = pd.read_csv(tmp_path / "fingerprint.csv", index_col="case")
    pd.testing.assert_frame_equal(table, fingerprint_table(fingerprint))
    assert list(table.index) == list(fingerprint.cases)
    row = table.loc["case_1"]
    assert tuple(row[["shape_z", "shape_y", "shape_x"]]) == (14, 12, 10) and row["kept_by_crop"] == 1
    assert row["inner: voxels"] == 24 and row["inner: volume_mm3"] == 24 and row["inner: components"] == 1
    assert row["inner: diameter_mm"] == pytest.approx((6 / math.pi * 24) ** (1 / 3))
    assert row["channel_0_q05"] < row["channel_0_q50"] < row["channel_0_q95"]


def test_memory_does_not_grow_with_the_cases(tmp_path, monkeypatch):
    """Four times as many cases take no more than one of them more, though all of their arrays together are far larger."""
    monkeypatch.setattr("planners.fingerprint.measure._SAMPLES", 100)
    peaks = []
    for cases in (3, 12):
        folder = make_dataset(tmp_path / str(cases), cases=0)
        for index in range(cases):
            save(folder / f"imagesTr/case_{index}_0000.nii", image(index, (48, 48, 48)))
            save(folder / f"labelsTr/case_{index}.nii", labels((48, 48, 48)))
        dataset = open_dataset(folder)
        tracemalloc.start()
        make_fingerprint(dataset)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 48**3 * 4 < peaks[0]


@pytest.mark.parametrize("part", [1, 50, 10**6])
def test_components_do_not_depend_on_the_parts(part):
    """Against the plain definition, by another library."""
    volume = np.random.default_rng(3).choice([0, 1, 4], (12, 13, 14), p=[0.8, 0.15, 0.05]).astype(np.int16)
    found = _component_voxels(volume, part)
    for index in (1, 4):
        numbered, _ = ndimage.label(volume == index, np.ones((3, 3, 3)))
        assert found[index] == tuple(sorted(np.bincount(numbered.ravel())[1:].tolist(), reverse=True))


def test_foreground_takes_no_index_of_every_voxel():
    """Three indices of eight bytes each would be six times an image in float32."""
    described = case(np.ones((40, 80, 80), np.int16))
    tracemalloc.start()
    drawn = _foreground(described, PLAIN)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert drawn.shape == (1, 40 * 80 * 80) and peak < 2 * drawn.nbytes
    both = Case("both", np.concatenate([described.image, 2 * described.image]), described.labels, described.geometry)
    assert np.array_equal(_foreground(both, PLAIN), both.image[:, both.labels > 0])
