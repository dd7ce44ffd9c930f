"""Labels, regions, ignore and arbitrary label values."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from configs.dataset import DatasetDescription

PLAIN: dict[str, Any] = {"name": "Spleen", "channels": ("CT",), "labels": {"background": 0, "spleen": 1, "tumour": 2}}
REGIONS: dict[str, Any] = {
    "name": "Brain",
    "channels": ("T1", "T2"),
    "labels": {"background": 0, "whole": (1, 2, 3), "core": (2, 3), "enhancing": 3},
    "regions_class_order": (1, 2, 3),
}


def test_plain_labels() -> None:
    description = DatasetDescription(**PLAIN)
    assert not description.has_regions
    assert description.foreground == ("spleen", "tumour")
    assert description.values == (0, 1, 2)
    assert description.output_channels == 3
    assert description.ignore_value is description.ignore_index is None
    assert description.class_indices("tumour") == (2,)


def test_arbitrary_values_become_positions_in_ascending_order() -> None:
    description = DatasetDescription(**PLAIN | {"labels": {"late": 500, "background": 0, "early": 7}})
    assert description.foreground == ("early", "late")
    assert description.values == (0, 7, 500)
    assert [description.class_indices(name) for name in description.foreground] == [(1,), (2,)]


def test_ignore_is_one_above_the_last_class_whatever_its_value() -> None:
    description = DatasetDescription(**PLAIN | {"labels": {"background": 0, "ignore": 1, "organ": 9}})
    assert description.ignore_value == 1
    assert description.values == (0, 9)
    assert description.cascade_channels == 1
    assert description.ignore_index == 2
    assert description.output_channels == 2
    assert description.foreground == ("organ",)


def test_regions_overlap_and_keep_their_order() -> None:
    description = DatasetDescription(**REGIONS)
    assert description.has_regions
    assert description.foreground == ("whole", "core", "enhancing")
    assert description.output_channels == 3
    assert description.values == (0, 1, 2, 3)
    assert description.cascade_channels == 3
    assert description.class_indices("core") == (2, 3)
    assert description.class_indices("enhancing") == (3,)


@pytest.mark.parametrize("content", [PLAIN, REGIONS])
def test_json_round_trip(tmp_path: Path, content: dict[str, Any]) -> None:
    description = DatasetDescription(**content)
    description.write(tmp_path / "dataset.json")
    read = DatasetDescription.read(tmp_path / "dataset.json")
    assert read == description
    assert list(read.labels) == list(description.labels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ""}, "at least 1 character"),
        ({"name": "../escape"}, "should match pattern"),
        ({"channels": ()}, "at least 1 item"),
        ({"channels": ("CT", "CT")}, "channel names must differ"),
        ({"file_ending": "nii.gz"}, "should match pattern"),
        ({"labels": {"organ": 1}}, "`background` must be 0, not None"),
        ({"labels": {"background": 1, "organ": 0}}, "`background` must be 0, not 1"),
        ({"labels": {"background": 0}}, "at least one label besides the background"),
        ({"labels": {"background": 0, "ignore": 1}}, "at least one label besides the background"),
        ({"labels": {"background": 0, "organ": 1, "ignore": (2, 3)}}, "`ignore` must be one value"),
        ({"labels": {"background": 0, "a": 1, "b": 1}}, "two labels share a value"),
        ({"labels": {"background": 0, "a": -1}}, "must not be negative"),
        ({"labels": {"background": 0, "a": 1, "ignore": 1}}, "the ignore value 1 is also a label's value"),
        ({"labels": {"background": 0, "a": (1, 2)}}, "must name one value for each of 1 regions, not 0"),
        ({"colour": "red"}, "Extra inputs are not permitted"),
    ],
)
def test_guards(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DatasetDescription(**PLAIN | change)
