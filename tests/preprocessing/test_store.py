import blosc2
import numpy as np
import pytest

from configs.errors import InputError
from configs.plan import ChannelNormalisation, ConfigurationPlan
from preprocessing.geometry.affine import Geometry
from preprocessing.pipeline import Preprocessed, preprocess
from preprocessing.store import CaseStore


@pytest.fixture
def prepared():
    image = np.random.default_rng(0).normal(size=(2, 20, 30, 25)).astype(np.float32)
    labels = (image[0] > 1).astype(np.int16)
    channels = tuple(ChannelNormalisation(channel=name, scheme="zscore") for name in "ab")
    configuration = ConfigurationPlan(spacing=(1, 1, 1), median_shape=(20, 30, 25), normalisation=channels)
    return preprocess(image, labels, Geometry.from_spacing((20, 30, 25), (1, 1, 1)), configuration)


def locations(prepared):
    return {1: np.argwhere(prepared.labels == 1).astype(np.int32)}


def test_round_trip_and_slices(tmp_path, prepared):
    store = CaseStore(tmp_path / "store")
    assert store.identifiers() == []
    store.write("a", prepared, locations(prepared), key="k", images=("/x.nii.gz",), labels="/y.nii.gz", patch_size=(8, 8, 8))
    case = store.read("a")
    assert case.image.shape == (2, 20, 30, 25)
    assert np.array_equal(case.image[:, 3:9, 5:7, :], prepared.image[:, 3:9, 5:7, :])
    assert np.array_equal(case.labels[:], prepared.labels) and case.labels.dtype == np.int16
    assert np.array_equal(case.class_locations[1], locations(prepared)[1])
    assert case.properties.trace == prepared.trace
    assert case.properties.images == ("/x.nii.gz",) and case.properties.labels == "/y.nii.gz"
    assert case.image.chunks == (1, 8, 8, 8)
    assert store.identifiers() == ["a"]


def test_cases_without_labels_or_foreground(tmp_path, prepared):
    store = CaseStore(tmp_path)
    store.write("bare", Preprocessed(prepared.image, None, prepared.trace), {})
    store.write("empty", Preprocessed(prepared.image, np.zeros_like(prepared.labels), prepared.trace), {})
    assert store.read("bare").class_locations == store.read("empty").class_locations == {}
    assert not store.read("empty").labels[:].any()
    with pytest.raises(InputError, match="cannot be read"):
        _ = store.read("bare").labels


def test_incomplete_cases_are_not_there(tmp_path, prepared):
    store = CaseStore(tmp_path)
    store.write("a", prepared, {}, key="k")
    assert store.is_current("a", "k") and not store.is_current("a", "other")
    (tmp_path / "a.json").write_text('{"key": "k"')
    assert not store.is_current("a", "k")
    store.write("a", prepared, {}, key="k")
    (tmp_path / "a.b2nd").unlink()
    assert not store.is_current("a", "k")
    with pytest.raises(InputError, match=r"not in .*Run se_plan_and_preprocess"):
        store.read("a")
    store.remove("a")
    assert list(tmp_path.iterdir()) == [] and store.identifiers() == []


def test_a_failing_write_leaves_no_case(tmp_path, prepared, monkeypatch):
    store = CaseStore(tmp_path)
    store.write("a", prepared, {}, key="k")

    def no_space(*arguments, **settings):
        raise OSError("No space left on device")

    monkeypatch.setattr("preprocessing.store.blosc2.asarray", no_space)
    with pytest.raises(OSError, match="No space"):
        store.write("a", prepared, {}, key="k")
    assert not store.is_current("a", "k") and store.identifiers() == []
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".partial")]


def _bytes(path):
    blosc2.SChunk(data=b"some bytes", urlpath=str(path), mode="w")


def _recipe(path):
    """An expression, which is computed when it is opened; functions are told by the same layer."""
    first = blosc2.asarray(np.arange(10.0), urlpath=str(path.with_name("x.b2nd")), mode="w")
    (first + 1).save(urlpath=str(path))


def _two_layers(path):
    blosc2.asarray(np.arange(10.0), urlpath=str(path), mode="w", meta={"b2o": {"kind": "lazyudf"}})


@pytest.mark.parametrize(
    "write", [_bytes, _recipe, _two_layers, lambda path: path.write_bytes(b"noise" * 100), lambda path: path.write_bytes(b"")]
)
def test_what_is_more_than_an_array_does_not_reach_the_library(tmp_path, prepared, monkeypatch, write):
    """It would run code that a file holds: unasked in versions before 4.14.1."""
    store = CaseStore(tmp_path)
    store.write("a", prepared, locations(prepared))
    (tmp_path / "a.b2nd").unlink()
    write(tmp_path / "a.b2nd")
    opened = []
    monkeypatch.setattr("preprocessing.store.blosc2.open", lambda *arguments, **settings: opened.append(arguments))
    with pytest.raises(InputError, match=r"a\.b2nd: the stored array cannot be read \(the file does not hold exactly one array"):
        _ = store.read("a").image
    assert not opened
    _ = store.read("a").labels
    assert len(opened) == 1, "what is an array does"
