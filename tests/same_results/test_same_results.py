"""What is planned and what networks compute stays as it was recorded in `tests/same_results/committed.json`.

The file holds what differs little between machines, and numbers are compared with a tolerance. `python -m tests.same_results`
records everything, and compares to the bit on one machine. After a change of results that is intended, write the file again:

    python -m tests.same_results.committed
"""

import json
from pathlib import Path
from typing import Any

import pytest

from configs.network import NetworkConfig
from tests.same_results.committed import DATASETS, FILE, record_network, record_plan, record_road
from tests.same_results.comparing import ABSENT, Difference, differences, expected
from tests.same_results.digests import without
from tests.same_results.networks import SMALL_NETWORKS, one_thread

TOLERANCE, FLOOR = 1e-3, 1e-5  # of network outputs on other processors, of which half are near 0
DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", SMALL_NETWORKS)
def test_a_network(recorded: dict[str, Any], name: str) -> None:
    with one_thread():
        network = record_network(NetworkConfig.model_validate(SMALL_NETWORKS[name]))
    assert differences(recorded["networks"][name], network, TOLERANCE, FLOOR) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.filterwarnings("default")
def test_the_plan_of_a_dataset(recorded: dict[str, Any], name: str, tmp_path: Path) -> None:
    if not (DATA / name).is_dir():
        pytest.skip(f"{DATA / name} is not there: real datasets are not part of the repository")
    assert differences(recorded["plans"][name], record_plan(DATA / name, tmp_path), 1e-6, 1e-9) == []


@pytest.mark.slow
def test_a_dataset_from_images_to_folds(recorded: dict[str, Any], tmp_path: Path) -> None:
    assert differences(recorded["road"], record_road(tmp_path), 1e-6, 1e-6) == []


def test_every_difference_is_found() -> None:
    before = {"a": [1, 2.0, "x"], "b": {"c": None, "gone": 1}, "empty": []}
    after = {"a": [1, 2.0000001, "y"], "b": {"c": None, "new": 2}, "empty": {}}
    found = differences(before, after)
    assert [one.path for one in found] == ["a/1", "a/2", "b/gone", "empty", "b/new"]
    assert found[2] == Difference("b/gone", 1, ABSENT)
    assert [one.path for one in expected(found, ["b/*", "nothing"])] == ["b/gone", "b/new"]
    assert "a/1" not in [one.path for one in differences(before, after, tolerance=1e-6)]


def test_whole_numbers_and_types_have_no_tolerance() -> None:
    assert differences({"n": 1000}, {"n": 1001}, tolerance=0.1)
    assert differences({"n": 1}, {"n": True}, tolerance=0.1)
    assert differences({"n": 1.0}, {"n": 1}) and not differences({"n": float("nan")}, {"n": float("nan")})


def test_words_are_left_out_at_every_depth() -> None:
    assert without({"reasons": 1, "a": [{"reasons": 2, "b": 3}]}, frozenset({"reasons"})) == {"a": [{"b": 3}]}
