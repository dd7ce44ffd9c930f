import json
import os
import shutil
import sys

import numpy as np
import pytest
import tifffile

from configs.dataset import DatasetDescription
from configs.errors import InputError
from configs.folders import dataset_name
from preprocessing.dataset.case import load_case
from preprocessing.dataset.raw import find_cases, open_dataset, scan_dataset
from preprocessing.formats.images import write_labels
from preprocessing.geometry.affine import Geometry
from tests.preprocessing.datasets import LABELS, image, labels, make_dataset, save, validate, write_json

ONE = DatasetDescription(name="one", channels=("MR",), labels=LABELS)
TWO = DatasetDescription(name="two", channels=("T1", "T2"), labels=LABELS)


def problems(call, *arguments):
    with pytest.raises(InputError) as caught:
        call(*arguments)
    assert all(fault.where and fault.remedy for fault in caught.value.faults)
    return [str(fault) for fault in caught.value.faults]


def test_nnunet_layout(tmp_path):
    dataset = open_dataset(make_dataset(tmp_path / "Dataset001_Toy"))
    assert list(dataset.cases) == ["case_0", "case_1", "case_2"]
    assert dataset.description.name == "Dataset001_Toy" and dataset.description.channels == ("MR",)
    files = dataset.cases["case_1"]
    assert files.images == (tmp_path / "Dataset001_Toy/imagesTr/case_1_0000.nii.gz",)
    assert files.labels == tmp_path / "Dataset001_Toy/labelsTr/case_1.nii.gz"


def test_decathlon_layout(tmp_path):
    folder = tmp_path / "Task01_Toy"
    save(folder / "imagesTr/toy_001.nii.gz", np.stack([image(1), image(2)], -1))
    save(folder / "labelsTr/toy_001.nii.gz", labels())
    listed = [{"image": "./imagesTr/toy_001.nii.gz", "label": "./labelsTr/toy_001.nii.gz"}]
    content = {
        "name": "Toy",
        "tensorImageSize": "4D",
        "modality": {"0": "T1", "1": "T2"},
        "labels": {"0": "Background", "1": "inner", "2": "outer"},
        "training": listed,
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    dataset = open_dataset(folder)
    assert dataset.description.channels == ("T1", "T2")
    assert dataset.description.labels == LABELS
    assert dataset.description.file_ending == ".nii.gz"
    assert len(dataset.cases["toy_001"].images) == 1
    (folder / "dataset.json").write_text(json.dumps(content | {"training": listed * 2}))
    assert "given twice" in problems(open_dataset, folder)[0]
    (folder / "dataset.json").write_text(json.dumps(content | {"training": [1]}))
    assert "does not list its files" in problems(open_dataset, folder)[0]


def test_files_listed_by_case(tmp_path):
    folder = make_dataset(tmp_path / "data", cases=1)
    entry = {"images": ["imagesTr/case_0_0000.nii.gz"], "label": "labelsTr/case_0.nii.gz"}
    write_json(folder, dataset={"mine": entry})
    assert list(open_dataset(folder).cases) == ["mine"]
    write_json(folder, dataset={"mine": entry | {"images": ["gone.nii.gz"]}, "other": {"label": 3}})
    found = problems(open_dataset, folder)
    assert len(found) == 2 and any("gone.nii.gz does not exist" in fault for fault in found)


def test_regions_ignore_and_any_values(tmp_path):
    regions = {"background": 0, "whole": [3, 7], "core": [7], "ignore": 9}
    folder = make_dataset(tmp_path / "data", labels=regions, regions_class_order=[3, 7])
    description = open_dataset(folder).description
    assert description.has_regions and description.values == (0, 3, 7) and description.ignore_index == 3
    assert description.class_indices("whole") == (1, 2)


def test_missing_folder_and_json(tmp_path):
    assert "the dataset folder does not exist" in problems(open_dataset, tmp_path / "none")[0]
    assert "there is no `dataset.json`" in problems(open_dataset, tmp_path)[0]
    (tmp_path / "dataset.json").write_text("{")
    assert "not valid JSON" in problems(open_dataset, tmp_path)[0]
    (tmp_path / "dataset.json").write_text("[]")
    assert "not a JSON object" in problems(open_dataset, tmp_path)[0]
    (tmp_path / "dataset.json").write_text("{}")
    assert len(problems(open_dataset, tmp_path)) == 2
    write_json(tmp_path)
    assert len(problems(open_dataset, tmp_path)) == 2  # imagesTr and labelsTr
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "labelsTr").mkdir()
    assert "no training cases" in problems(open_dataset, tmp_path)[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {"background": 1, "a": 2}}, "`background` must be 0"),
        ({"labels": {"background": 0, "a": 1, "b": 1}}, "share a value"),
        ({"labels": {"background": 0, "a": "x"}}, "labels"),
        ({"channel_names": {"1": "MR"}}, "must name channels 0, 1"),
        ({"file_ending": "nii/gz"}, "file_ending"),
    ],
)
def test_wrong_description(tmp_path, changes, message):
    write_json(tmp_path, **changes)
    assert message in problems(open_dataset, tmp_path)[0]


def test_missing_label_file(tmp_path):
    folder = make_dataset(tmp_path / "data")
    (folder / "labelsTr/case_1.nii.gz").unlink()
    assert problems(open_dataset, folder) == [
        f"case `case_1`: label file {folder}/labelsTr/case_1.nii.gz does not exist. Add the label file or remove the case."
    ]
    assert scan_dataset(folder).cases["case_1"].labels is None


def test_case_given_twice(tmp_path):
    folder = make_dataset(tmp_path / "data")
    save(folder / "imagesTr/case_1_0000.nii", image())
    save(folder / "labelsTr/case_2.nii", labels())
    found = problems(open_dataset, folder)
    assert len(found) == 2 and all("given twice" in fault for fault in found)
    assert "case_1_0000.nii and" in found[0]


def test_channels_missing_and_too_many(tmp_path):
    folder = make_dataset(tmp_path / "data", channel_names={"0": "T1", "1": "T2"})
    save(folder / "imagesTr/case_0_0001.nii.gz", image(7))
    save(folder / "imagesTr/case_1_0001.nii.gz", image(8))
    save(folder / "imagesTr/case_1_0002.nii.gz", image(9))
    save(folder / "imagesTr/unnumbered.nii.gz", image(9))
    found = problems(open_dataset, folder)
    assert len(found) == 3
    assert "does not end with a channel number" in found[0]
    assert any("case_1" in fault and "is channel 2, but there are 2 channels" in fault for fault in found)
    assert any("case_2" in fault and "channel 1 (T2) is missing" in fault for fault in found)


def test_label_without_image_and_clashing_names(tmp_path):
    folder = make_dataset(tmp_path / "data")
    save(folder / "labelsTr/alone.nii.gz", labels())
    save(folder / "labelsTr/case_0_labels.nii.gz", labels())
    save(folder / "imagesTr/case_0_labels_0000.nii.gz", image(5))
    found = problems(open_dataset, folder)
    assert len(found) == 2 and "has no image" in found[0] and "Rename the case" in found[1]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_not_valid_utf8_are_refused(tmp_path):
    folder = make_dataset(tmp_path / "data")
    for path in [*(folder / "imagesTr").glob("case_0_*"), folder / "labelsTr" / "case_0.nii.gz"]:
        path.rename(path.with_name(os.fsdecode(os.fsencode(path.name).replace(b"case_0", b"\xff"))))
    (fault,) = problems(open_dataset, folder)
    assert r"case `\udcff`: the name is not valid UTF-8" in fault


def test_hidden_and_foreign_files_are_left_alone(tmp_path):
    folder = make_dataset(tmp_path / "data")
    for name in ("imagesTr/.DS_Store", "imagesTr/._case_0_0000.nii.gz", "labelsTr/notes.txt"):
        (folder / name).write_bytes(b"")
    assert len(open_dataset(folder).cases) == 3


@pytest.mark.parametrize(("folder", "name"), [("Dataset 1 (new)", "Dataset_1_new_"), ("_x", "x"), ("ü", "dataset")])
def test_dataset_name_suits_file_systems(tmp_path, folder, name):
    assert dataset_name(tmp_path / folder) == name
    DatasetDescription(name=name, channels=("MR",), labels=LABELS)


def test_find_cases_in_a_folder(tmp_path):
    for name in ("a_0000.nii.gz", "a_0001.nii.gz", "four_d.nrrd"):
        (tmp_path / name).write_bytes(b"")
    cases = find_cases(tmp_path, TWO)
    assert list(cases) == ["a", "four_d"]
    assert [path.name for path in cases["a"]] == ["a_0000.nii.gz", "a_0001.nii.gz"]


def test_find_one_file(tmp_path):
    for name in ("a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz", "c.mha"):
        (tmp_path / name).write_bytes(b"")
    assert list(find_cases(tmp_path / "a_0000.nii.gz", TWO)) == ["a"]
    assert len(find_cases(tmp_path / "a_0001.nii.gz", TWO)["a"]) == 2
    assert find_cases(tmp_path / "c.mha", ONE) == {"c": (tmp_path / "c.mha",)}
    assert list(find_cases(tmp_path / "b_0000.nii.gz", ONE)) == ["b"]
    assert "channel 1 (T2) is missing" in problems(find_cases, tmp_path / "b_0000.nii.gz", TWO)[0]


def test_find_cases_faults(tmp_path):
    assert "no such file or folder" in problems(find_cases, tmp_path / "none", ONE)[0]
    assert "no image found" in problems(find_cases, tmp_path, ONE)[0]
    for name in ("a_0000.nii.gz", "a_0000.nii", "a.nii.gz", "b_0001.nii.gz"):
        (tmp_path / name).write_bytes(b"")
    found = problems(find_cases, tmp_path, ONE)
    assert sum("given twice" in fault for fault in found) == 2
    assert any("channel 0 (MR) is missing" in fault for fault in found)
    shutil.rmtree(tmp_path)


def test_dataset_of_tiff_stacks(tmp_path):
    """As nnU-Net lays them out: the spacing beside images and labels, without the channel's number."""
    write_json(tmp_path, channel_names={"0": "a", "1": "b"}, file_ending=".tif")
    geometry = Geometry.from_spacing((14, 12, 10), (3, 1, 1))
    for index in range(2):
        for channel in range(2):
            path = tmp_path / f"imagesTr/cell_{index}_{channel:04d}.tif"
            path.parent.mkdir(exist_ok=True)
            tifffile.imwrite(path, image(2 * index + channel).T)
        (tmp_path / f"imagesTr/cell_{index}.json").write_text('{"spacing": [3, 1, 1]}')
        write_labels(tmp_path / f"labelsTr/cell_{index}.tif", labels().T, geometry)
    dataset = open_dataset(tmp_path)
    assert validate(dataset) == [] and list(dataset.cases) == ["cell_0", "cell_1"]
    assert load_case("cell_1", dataset.cases["cell_1"], dataset.description).geometry == geometry
    (tmp_path / "imagesTr/cell_0.json").unlink()
    found = problems(validate, open_dataset(tmp_path))
    assert len(found) == 2 and all("there is no cell_0.json beside it" in fault for fault in found)


def test_listed_files_may_lie_anywhere(tmp_path):
    """By absolute paths, in any format, all channels in one file or one file for each."""
    folder = tmp_path / "data"
    folder.mkdir()
    four_d = save(tmp_path / "elsewhere/scan.nii", np.stack([image(1), image(2)], -1))
    one = save(tmp_path / "elsewhere/t1.nii.gz", image(3))
    save(folder / "t2.nii", image(4))
    truth = save(folder / "truth.nii.gz", labels())
    listed = {
        "whole": {"images": [str(four_d)], "label": "truth.nii.gz"},
        "parts": {"images": [str(one), "t2.nii"], "label": str(truth)},
    }
    write_json(folder, channel_names={"0": "T1", "1": "T2"}, dataset=listed)
    dataset = open_dataset(folder)
    assert validate(dataset) == [] and list(dataset.cases) == ["parts", "whole"]
    case = load_case("whole", dataset.cases["whole"], dataset.description)
    assert np.array_equal(case.image, np.stack([image(1).T, image(2).T]))


@pytest.mark.parametrize("names", [("Background", "Ignore"), ("BACKGROUND", "IGNORE"), (" background", "ignore ")])
def test_background_and_ignore_are_known_in_any_case(tmp_path, names):
    """`Ignore` used to be a label to learn."""
    folder = make_dataset(tmp_path / "data", labels={names[0]: 0, "inner": 1, "outer": 2, names[1]: 9})
    description = open_dataset(folder).description
    assert description.ignore_value == 9 and description.foreground == ("inner", "outer")
    write_json(folder, labels={"0": names[0], "1": "inner", "2": "outer", "9": names[1]})
    assert open_dataset(folder).description == description


def test_names_of_labels_are_given_once(tmp_path):
    folder = make_dataset(tmp_path / "data", labels={"background": 0, "inner": 1, "outer": 2, "ignore": 3, "Ignore": 4})
    assert "`labels` has the name `ignore` twice" in problems(open_dataset, folder)[0]
    write_json(folder, labels={"0": "background", "1": "a", "2": "a"})
    assert "`labels` has the name `a` twice" in problems(open_dataset, folder)[0]
    text = (folder / "dataset.json").read_text()
    (folder / "dataset.json").write_text('{"labels": {"background": 0, "a": 1, "a": 2}, ' + text[1:])
    assert "an object has `a` twice" in problems(open_dataset, folder)[0]


@pytest.mark.parametrize("ending", ["nii.gz", ".NII.GZ", " .nii.gz"])
def test_a_file_ending_needs_no_dot(tmp_path, ending):
    assert open_dataset(make_dataset(tmp_path / "data", file_ending=ending)).description.file_ending == ".nii.gz"


def make_version_1(folder, channels, listed_image="./imagesTr/{}.nii.gz"):
    """As version 1 of nnU-Net writes it."""
    make_dataset(folder)
    for case in range(3):
        for channel in range(1, channels):
            save(folder / f"imagesTr/case_{case}_{channel:04d}.nii.gz", image(10 + case))
    listed = [{"image": listed_image.format(f"case_{case}"), "label": f"./labelsTr/case_{case}.nii.gz"} for case in range(3)]
    content = {
        "modality": {str(index): "MR" for index in range(channels)},
        "labels": {"0": "background", "1": "inner", "2": "outer"},
    }
    (folder / "dataset.json").write_text(json.dumps(content | {"training": listed, "test": []}))
    return folder


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("listed", ["./imagesTr/{}.nii.gz", "imagesTr/{}_0000.nii.gz"])
def test_the_list_of_version_1_means_numbered_files(tmp_path, channels, listed):
    found = open_dataset(make_version_1(tmp_path / "data", channels, listed)).cases
    assert list(found) == ["case_0", "case_1", "case_2"]
    assert [path.name for path in found["case_1"].images] == [f"case_1_{index:04d}.nii.gz" for index in range(channels)]


def test_a_channel_that_the_list_of_version_1_lacks(tmp_path):
    folder = make_version_1(tmp_path / "data", 2)
    (folder / "imagesTr/case_1_0001.nii.gz").unlink()
    (problem,) = problems(open_dataset, folder)
    assert "case_1_0001.nii.gz does not exist" in problem


def test_normalisation_is_stated_per_channel(tmp_path):
    folder = make_dataset(tmp_path / "data")
    assert open_dataset(folder).normalisation == (None,)
    for word in ("normalisation", "normalization"):
        write_json(folder, **{word: {"0": "noNorm"}})
        assert open_dataset(folder).normalisation == ("none",)
    for wrong in ({"1": "ct"}, ["ct"], {"MR": "ct"}):
        write_json(folder, normalisation=wrong)
        assert "not an object from the channels 0 to schemes" in problems(open_dataset, folder)[0]
    write_json(folder, normalisation={"0": "CT_2"})
    assert "unknown scheme `CT_2`. Choose from ct, zscore" in problems(open_dataset, folder)[0]
