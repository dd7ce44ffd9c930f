"""Labels, regions, ignore and arbitrary label values."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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
        ({"labels": {"background": 0, "a": ()}, "regions_class_order": (1,)}, "a region must have at least one value"),
        ({"colour": "red"}, "Extra inputs are not permitted"),
    ],
)
def test_guards(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DatasetDescription(**PLAIN | change)


def test_channels_may_share_a_name() -> None:
    assert DatasetDescription(**PLAIN | {"channels": ("CT", "CT")}).channels == ("CT", "CT")
    titles = DatasetDescription(**PLAIN | {"channels": ("CT", "T1", "CT")}).channel_titles
    assert titles == ("CT (channel 0)", "T1", "CT (channel 2)")


def test_regions_painted_out_of_order_are_refused() -> None:
    """A perfect network would score 0.41 and 0."""
    labels = {"background": 0, "whole": (1, 2, 3), "core": (1, 2), "enh": 1}
    with pytest.raises(ValidationError) as caught:
        DatasetDescription(**REGIONS | {"labels": labels})
    assert r"value 1 (whole, core, enh) becomes 3 (whole); value 3 (whole) becomes 1 (whole, core, enh)" in str(caught.value)
    assert DatasetDescription(**REGIONS | {"labels": labels, "regions_class_order": (3, 2, 1)}).has_regions


@pytest.mark.parametrize("order", [(1, 2, 9), (1, 2, 0), (1, 1, 3)])
def test_painted_values_lie_in_their_regions(order: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match="becomes"):
        DatasetDescription(**REGIONS | {"regions_class_order": order})


def test_values_of_the_same_regions_may_become_one() -> None:
    """A region that merges values is right at any of them."""
    labels = {"background": 0, "whole": (1, 2, 3, 4), "core": (3, 4)}
    assert DatasetDescription(**REGIONS | {"labels": labels, "regions_class_order": (2, 3)}).values == (0, 1, 2, 3, 4)


VALUES = st.lists(st.integers(1, 4), min_size=1, max_size=4, unique=True).map(tuple)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.lists(VALUES, min_size=1, max_size=4), st.data())
def test_accepted_regions_come_back_from_a_perfect_network(regions: list[tuple[int, ...]], data: st.DataObject) -> None:
    order = data.draw(st.lists(st.integers(0, 4), min_size=len(regions), max_size=len(regions)))
    labels = {"background": 0} | {f"r{index}": values for index, values in enumerate(regions)}
    painted = {0: 0}
    for value in {value for values in regions for value in values}:
        for paint, values in zip(order, regions, strict=True):
            if value in values:
                painted[value] = paint
    is_right = all((value in values) == (painted[value] in values) for value in painted for values in regions)
    try:
        DatasetDescription(name="x", channels=("a",), labels=labels, regions_class_order=tuple(order))
        assert is_right
    except ValidationError:
        assert not is_right
