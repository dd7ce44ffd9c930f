"""Descriptions, plans and bundles under arbitrary content: they are taken, or refused by an `InputError`, and nothing else happens."""

import io
import json
import zipfile

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs.dataset import DatasetDescription
from configs.errors import InputError
from configs.plan import Plan
from inference.bundle.contents import MANIFEST
from inference.bundle.install import import_bundle
from preprocessing.dataset.raw import scan_dataset
from tests.inference.models import plan

steadily = settings(
    max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
TEXTS = st.one_of(
    st.sampled_from(["", "0", "background", "ignore", "../x", "/etc/passwd", ".nii.gz", "a/b", "\0", "<b>"]), st.text(max_size=8)
)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS)
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)), max_leaves=8
)
KEYS = ("channel_names", "labels", "regions_class_order", "file_ending", "modality", "training", "dataset", "name")
DESCRIPTION = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz"}


def refused(error: InputError) -> bool:
    """Whether every fault has a place, a reason and a remedy."""
    return bool(error.faults) and all(fault.where and fault.problem and fault.remedy for fault in error.faults)


@steadily
@given(st.one_of(ANYTHING, st.dictionaries(st.sampled_from(KEYS), ANYTHING, max_size=3).map(lambda given: DESCRIPTION | given)))
def test_any_description_of_a_dataset(tmp_path, content):
    for name in ("imagesTr", "labelsTr"):
        (tmp_path / name).mkdir(exist_ok=True)
    for name in ("imagesTr/c_0000.nii.gz", "labelsTr/c.nii.gz"):
        (tmp_path / name).touch()
    (tmp_path / "dataset.json").write_text(json.dumps(content), "utf-8", "surrogatepass")
    try:
        found = scan_dataset(tmp_path)
    except InputError as error:
        assert refused(error) and content != DESCRIPTION
        return
    described = found.description
    assert isinstance(described, DatasetDescription)
    assert DatasetDescription.model_validate_json(described.model_dump_json()) == described


def places(value, path=()):
    """Paths to everything in plain data."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def replaced(value, path, other):
    """Plain data with something else at a path."""
    if not path:
        return other
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], other)
    return copy


SOUND = json.loads(plan(scheme="zscore").model_dump_json())
PLANS = st.builds(lambda path, other: replaced(SOUND, path, other), st.sampled_from(list(places(SOUND))), ANYTHING)


@steadily
@given(PLANS)
def test_any_plan(tmp_path, content):
    (tmp_path / "plan.json").write_text(json.dumps(content), "utf-8", "surrogatepass")
    try:
        read = Plan.read(tmp_path / "plan.json")
    except InputError as error:
        assert refused(error) and content != SOUND
        return
    read.write(tmp_path / "again.json")
    assert Plan.read(tmp_path / "again.json") == read


NAMES = st.one_of(
    st.sampled_from([MANIFEST, "plan.json", "model_card.md", "fold_0/weights_final.safetensors", "../x", "/x"]), TEXTS
)


@settings(steadily, max_examples=100)
@given(st.one_of(st.binary(max_size=300), st.dictionaries(NAMES, st.one_of(st.binary(max_size=40), ANYTHING), max_size=4)))
def test_nothing_arbitrary_is_imported(tmp_path, content):
    if isinstance(content, dict):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name, inner in content.items():
                archive.writestr(zipfile.ZipInfo(name or "x"), inner if isinstance(inner, bytes) else json.dumps(inner))
        content = packed.getvalue()
    (tmp_path / "model.zip").write_bytes(content)
    try:
        import_bundle(tmp_path / "model.zip", tmp_path / "model")
    except InputError as error:
        assert refused(error) and [path.name for path in tmp_path.iterdir()] == ["model.zip"]
    else:
        raise AssertionError("it was imported")
