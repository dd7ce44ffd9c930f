"""Networks at full size by shapes alone: what they ask of a GPU does not grow unnoticed, and fits what the planner counts."""

import pytest

from tests.gpu.roofline import cases, count, read_rows
from tests.gpu.standin.cuda import install

QUICK = ("small baseline", "small se, 1 scales")


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize(
    "name", [pytest.param(case.name, marks=() if case.name in QUICK else pytest.mark.thorough) for case in cases()]
)
def test_a_planned_network(name: str) -> None:
    install()
    found = count(next(case for case in cases() if case.name == name))
    row, known = found.row, read_rows()[name]
    assert {key: value for key, value in row.items() if value != known[key]} == {}
    assert max(found.peaks["bf16"], found.peaks["float32"]) <= found.peaks["planned"]
    assert not found.wide
