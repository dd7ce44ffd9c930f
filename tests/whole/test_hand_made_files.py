"""Files that people write: another order of rows and keys gives the same result, and a repetition is a fault."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs.dataset import DatasetDescription
from configs.errors import InputError
from configs.plan import Plan
from configs.training import TrainingConfig, load_training_config
from inference.evaluation.label_files import load_description
from inference.prediction.case_list import list_cases
from preprocessing.dataset.raw import open_dataset
from preprocessing.dataset.splits import choose_split, find_splits, read_groups
from preprocessing.formats.images import read_image
from tests.inference.models import LABELS, plan

CASES = ("c0", "c1", "c2", "c3")
IMAGES = (
    "a_0000.nii.gz",
    "b_0000.nii.gz",
    "imagesTr/c_0000.nii.gz",
    "imagesTr/d_0000.nii.gz",
    "labelsTr/c.nii.gz",
    "labelsTr/d.nii.gz",
)
PLAIN = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "a": 2, "b": 1},
    "normalisation": {"0": "zscore"},
    "file_ending": ".nii.gz",
}
REGIONS = {"labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enh": 3}, "regions_class_order": [1, 2, 3]}
LISTED = {"c": {"images": ["imagesTr/c_0000.nii.gz"], "label": "labelsTr/c.nii.gz"}}
LISTED |= {"d": {"images": ["imagesTr/d_0000.nii.gz"], "label": "labelsTr/d.nii.gz"}}
DECATHLON = {
    "modality": {"0": "MR"},
    "labels": {"0": "background", "1": "a"},
    "training": [{"image": f"imagesTr/{case}.nii.gz", "label": f"labelsTr/{case}.nii.gz"} for case in "cd"],
}
steadily = settings(
    max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@dataclass(frozen=True)
class Table:
    """A file that a person writes, with its sound content, and its reader."""

    file: str
    content: Any
    read: Callable[[Path], object]
    rows: tuple[str, ...] = ()  # keys of lists whose order means nothing


def _described(description: DatasetDescription) -> object:
    """What a description says, whatever the order of its labels."""
    painted = dict(zip(description.foreground, description.regions_class_order or (), strict=False))
    return description.channels, dict(description.labels), description.file_ending, painted


def _dataset(path: Path) -> object:
    found = open_dataset(path.parent)
    return _described(found.description), found.cases, found.normalisation


JSON = {
    "dataset": Table("dataset.json", PLAIN, _dataset),
    "regions": Table("dataset.json", PLAIN | REGIONS, _dataset),
    "dataset that lists its cases": Table("dataset.json", PLAIN | {"dataset": LISTED}, _dataset),
    "decathlon and version 1": Table("dataset.json", DECATHLON, _dataset, ("training",)),
    "groups": Table("groups.json", dict(zip(CASES, "AABB", strict=True)), read_groups),
    "list of cases": Table("cases.json", {"x": ["a_0000.nii.gz"], "y": ["b_0000.nii.gz"]}, lambda path: list_cases(path, LABELS)),
    "splits": Table(
        "splits.json",
        [{"train": ["c0", "c1"], "val": ["c2", "c3"]}, {"train": ["c2", "c3"], "val": ["c0", "c1"]}],
        lambda path: (find_splits(path, CASES), choose_split(path, 1, CASES)),
        ("train", "val"),
    ),
    "plan": Table("plan.json", json.loads(plan(scheme="zscore").model_dump_json()), Plan.read),
    "settings": Table(
        "settings.json", {"epochs": 5, "class_weights": {"a": 2.0, "b": 1.0}}, lambda path: load_training_config(str(path))
    ),
    "labels": Table("labels.json", LABELS.model_dump(mode="json"), lambda path: _described(load_description(path))),
    "spacing": Table("i.json", {"spacing": [3, 2, 1], "comment": {"by": "hand"}}, lambda path: _of_tiff(path)),
}


def _of_tiff(path: Path) -> object:
    import tifffile

    tifffile.imwrite(path.with_suffix(".tif"), np.zeros((4, 5, 6), np.uint8), photometric="minisblack")
    return read_image([path.with_suffix(".tif")])[1].spacing


ROWS = {
    "groups": Table("groups.csv", ["c0,A", "c1,A", "c2,B", "c3,B"], read_groups),
    "list of cases": Table("cases.txt", ["a_0000.nii.gz", "b_0000.nii.gz"], lambda path: list_cases(path, LABELS)),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for image in IMAGES:
        (tmp_path / image).parent.mkdir(exist_ok=True)
        (tmp_path / image).touch()
    return tmp_path


def text_of(value: Any, table: Table, chance: random.Random, repeat: int = -1, key: str = "") -> str:
    """JSON with keys and rows in another order; the key or row number `repeat` of all stands there twice."""
    left = [repeat]

    def text(value: Any, key: str) -> str:
        if isinstance(value, dict):
            parts = [f"{json.dumps(name)}: {text(inner, name)}" for name, inner in value.items()]
            chance.shuffle(parts)
        elif isinstance(value, list):
            parts = [text(inner, "") for inner in value]
            if key not in table.rows:
                return f"[{', '.join(parts)}]"
            chance.shuffle(parts)
        else:
            return json.dumps(value)
        for place in range(len(parts)):
            if left[0] == 0:
                parts.insert(chance.randrange(len(parts) + 1), parts[place])
            left[0] -= 1
        return f"{{{', '.join(parts)}}}" if isinstance(value, dict) else f"[{', '.join(parts)}]"

    return text(value, key)


def places(value: Any, table: Table, key: str = "") -> int:
    """Number of keys and rows that can be repeated."""
    inner = list(value.items()) if isinstance(value, dict) else [("", each) for each in value] if isinstance(value, list) else []
    own = len(inner) if isinstance(value, dict) or key in table.rows else 0
    return own + sum(places(each, table, name) for name, each in inner)


@pytest.mark.parametrize("name", JSON)
@steadily
@given(seed=st.integers(0, 2**32))
def test_the_order_of_keys_means_nothing(folder: Path, name: str, seed: int) -> None:
    table = JSON[name]
    (folder / table.file).write_text(json.dumps(table.content))
    expected = table.read(folder / table.file)
    (folder / table.file).write_text(text_of(table.content, table, random.Random(seed)))
    try:
        assert table.read(folder / table.file) == expected
    except InputError as error:  # the order of regions is that of their values
        assert name == "regions" and "becomes" in str(error)


@pytest.mark.parametrize("name", JSON)
@steadily
@given(seed=st.integers(0, 2**32))
def test_a_repeated_key_is_a_fault(folder: Path, name: str, seed: int) -> None:
    table, chance = JSON[name], random.Random(seed)
    (folder / table.file).write_text(text_of(table.content, table, chance, chance.randrange(places(table.content, table))))
    with pytest.raises(InputError, match="twice"):
        table.read(folder / table.file)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@steadily
@given(data=st.data())
def test_the_order_of_rows_means_nothing_and_a_repeated_row_is_a_fault(
    folder: Path, name: str, mark: str, newline: str, data: st.DataObject
) -> None:
    table = ROWS[name]
    (folder / table.file).write_text("\n".join(table.content))
    expected = table.read(folder / table.file)
    rows = data.draw(st.permutations(table.content))
    path = folder / table.file
    path.write_bytes((mark + newline.join(rows)).encode())
    assert table.read(path) == expected
    path.write_bytes((mark + newline.join([*rows, data.draw(st.sampled_from(rows))])).encode())
    with pytest.raises(InputError, match=r"twice|lines \d and \d list it"):
        table.read(path)


@pytest.mark.parametrize("name", [*JSON, *(f"{name}, rows" for name in ROWS)])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252"])
def test_every_reader_says_which_encoding_it_cannot_read(folder: Path, name: str, encoding: str) -> None:
    table = ROWS[name.removesuffix(", rows")] if name.endswith("rows") else JSON[name]
    text = "\n".join(table.content) if name.endswith("rows") else json.dumps(table.content)
    (folder / table.file).write_text(text)
    expected = table.read(folder / table.file)
    content = text.encode(encoding) if encoding != "cp1252" else text.replace("a", "ä").replace("c0", "Ä").encode(encoding)
    (folder / table.file).write_bytes(content)
    if encoding == "utf-8-sig":
        assert table.read(folder / table.file) == expected
        return
    word = "may be Windows-1252" if encoding == "cp1252" else "encoded as UTF"
    with pytest.raises(InputError, match=word):
        table.read(folder / table.file)


def test_settings_are_read_by_the_type_as_well(folder: Path) -> None:
    (folder / "training.json").write_text('{"epochs": 5, "epochs": 6}')
    with pytest.raises(InputError, match="an object has `epochs` twice"):
        TrainingConfig.read(folder / "training.json")
