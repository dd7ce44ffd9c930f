import gzip

import numpy as np
import pytest

from configs.errors import InputError
from configs.progress import Silent
from preprocessing.dataset.raw import scan_dataset
from preprocessing.dataset.validation import examine
from tests.preprocessing.datasets import affine, image, labels, make_dataset, save, validate


def faults_of(folder):
    with pytest.raises(InputError) as caught:
        validate(scan_dataset(folder))
    assert all(fault.where.startswith("case") and fault.remedy for fault in caught.value.faults)
    return [str(fault) for fault in caught.value.faults]


def with_image(folder, array, grid=None):
    save(folder / "imagesTr/case_1_0000.nii.gz", array, grid)


def with_labels(folder, array, grid=None):
    save(folder / "labelsTr/case_1.nii.gz", array, grid)


def broken(value):
    array = image(9)
    array[3, 4, 5] = value
    return array


def truncate(path):
    path.write_bytes(path.read_bytes()[:-200])


def zero_spacing(path):
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[280:296] = bytes(16)  # srow_x
    path.write_bytes(gzip.compress(content))


def unknown_value():
    array = labels()
    array[0, 0, 0] = 5
    return array


DAMAGE = {
    "missing label": (lambda folder: (folder / "labelsTr/case_1.nii.gz").unlink(), "label file .* does not exist"),
    "unnamed value": (
        lambda folder: with_labels(folder, unknown_value()),
        r"does not name the label value 5 .*0, 1, 2",
    ),
    "shape": (
        lambda folder: with_labels(folder, labels((10, 12, 15))),
        r"has the shape \(15, 12, 10\) and the image \(14, 12, 10\)",
    ),
    "spacing": (
        lambda folder: with_labels(folder, labels(), np.diag([1, 1, 2.0, 1])),
        r"has the spacing 2 x 1 x 1 mm and the image 1 x 1",
    ),
    "origin": (lambda folder: with_labels(folder, labels(), np.eye(4) + np.eye(4, k=3) * 2), r"has the origin 2 x 0 x 0 mm"),
    "direction": (lambda folder: with_labels(folder, labels(), np.diag([-1.0, 1, 1, 1])), r"has the directions -1 x 0 x 0"),
    "truncated image": (
        lambda folder: truncate(folder / "imagesTr/case_1_0000.nii.gz"),
        "case_1_0000.nii.gz: the file cannot be read",
    ),
    "truncated label": (lambda folder: truncate(folder / "labelsTr/case_1.nii.gz"), "case_1.nii.gz: the file cannot be read"),
    "NaN": (lambda folder: with_image(folder, broken(np.nan)), "1 of 1680 voxels of channel 0 are NaN or infinite"),
    "infinite": (lambda folder: with_image(folder, broken(-np.inf)), "1 of 1680 voxels of channel 0 are NaN or infinite"),
    "given twice": (lambda folder: save(folder / "imagesTr/case_1_0000.nii", image(9)), "given twice"),
    "channels": (lambda folder: with_image(folder, image(9, (10, 12, 14, 2))), "has 2 channels, but `dataset.json` names 1"),
    "duplicate": (lambda folder: with_image(folder, image(0)), "`case_0`, `case_1`: the images are identical"),
    "fractions": (lambda folder: with_labels(folder, labels() * 0.5), "whole numbers"),
    "flat": (lambda folder: with_image(folder, image(9, (10, 12))), r"its shape is \(10, 12\)"),
    "zero spacing": (lambda folder: zero_spacing(folder / "imagesTr/case_1_0000.nii.gz"), r"spacing must be .*0\.0"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_each_fault_is_found_alone(tmp_path, name):
    folder = make_dataset(tmp_path / "data")
    damage, message = DAMAGE[name]
    damage(folder)
    found = faults_of(folder)
    assert len(found) == 1 and "case_1" in found[0]
    with pytest.raises(InputError, match=message):
        validate(scan_dataset(folder))


def test_sound_dataset_has_no_faults_and_no_warnings(tmp_path):
    dataset = scan_dataset(make_dataset(tmp_path / "data", affine=affine((0.7, 1.2, 5), (0.2, 0.4, -0.1), "z")))
    assert validate(dataset) == []


def test_all_faults_at_once(tmp_path):
    folder = make_dataset(tmp_path / "data", cases=6)
    (folder / "labelsTr/case_0.nii.gz").unlink()
    with_image(folder, broken(np.nan), np.diag([1, 1, 3.0, 1]))
    save(folder / "labelsTr/case_2.nii.gz", unknown_value(), np.diag([1, 2.0, 1, 1]))
    truncate(folder / "imagesTr/case_3_0000.nii.gz")
    save(folder / "imagesTr/case_4_0000.nii.gz", image(5))
    found = faults_of(folder)
    assert [sum(f"`case_{index}`" in fault for fault in found) for index in range(6)] == [1, 2, 2, 1, 1, 1]


def test_channel_files_on_different_grids(tmp_path):
    folder = make_dataset(tmp_path / "data", cases=1, channel_names={"0": "T1", "1": "T2"})
    save(folder / "imagesTr/case_0_0001.nii.gz", image(3, (10, 12, 15)))
    assert "case_0_0001.nii.gz: this channel has the shape" in faults_of(folder)[0]
    save(folder / "imagesTr/case_0_0001.nii.gz", image(3), np.diag([1, 1, 1.5, 1]))
    assert "case_0_0001.nii.gz: this channel has the spacing" in faults_of(folder)[0]


def test_headers_that_differ_by_rounding_pass(tmp_path):
    folder = make_dataset(tmp_path / "data", cases=1, affine=affine((0.7, 1.2, 5), (0.2, 0.4, -0.1)))
    save(folder / "labelsTr/case_0.nii.gz", labels(), affine((0.70001, 1.2, 5), (0.20001, 0.4, -0.1)))
    assert validate(scan_dataset(folder)) == []


def test_warnings(tmp_path):
    folder = make_dataset(tmp_path / "data")
    with_image(folder, np.full((10, 12, 14), 3, np.float32))
    save(folder / "labelsTr/case_2.nii.gz", np.zeros_like(labels()))
    warnings = validate(scan_dataset(folder))
    assert [warning.where for warning in warnings] == ["case `case_1`", "case `case_2`"]
    assert "channel 0 (MR) is 3 everywhere" in warnings[0].problem and "only background" in warnings[1].problem


def test_labels_outside_of_the_image_are_a_warning(tmp_path):
    folder = make_dataset(tmp_path / "data")
    empty = image(9)
    empty[:5] = 0
    with_image(folder, empty)
    (warning,) = validate(scan_dataset(folder))
    assert "168 of 336 labelled voxels lie in the zero margin" in warning.problem


def _mean(case):
    return float(case.image.mean())


def test_processes_measure_the_same_in_the_datasets_order(tmp_path):
    dataset = scan_dataset(make_dataset(tmp_path / "data", cases=4))
    alone = examine(dataset, _mean, 1, Silent())
    together = examine(dataset, _mean, 2, Silent())
    assert alone == together and list(together[1]) == list(dataset.cases)
