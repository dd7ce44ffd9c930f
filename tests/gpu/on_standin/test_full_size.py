"""Networks at full size by shapes alone: what they ask of a GPU does not grow unnoticed, and fits what the planner counts."""

import pytest
import torch

from tests.gpu.roofline import Roofline, cases, count, read_rows
from tests.gpu.standin.cuda import install

# Most launches and milliseconds of a training step, and most milliseconds of four tiles, that smooth networks of one scale may ask for.
MOST = {"small se, 1 scales": (500, 14.0, 12.0), "medium se, 1 scales": (500, 14.0, 12.0)}
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
    launches, step, tiles = MOST.get(name, (float("inf"),) * 3)
    assert row["step_launches"] <= launches and row["step_ms"] <= step and row["tiles_ms"] <= tiles


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
def test_without_the_kernels_it_takes_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The counter sees what PyTorch's own operators start."""
    install()
    monkeypatch.setenv("SE_UNET_KERNELS", "plain")
    name = "small se, 1 scales"
    assert (
        count(next(case for case in cases() if case.name == name)).row["step_launches"] > 2 * read_rows()[name]["step_launches"]
    )


def test_lists_of_tensors_are_counted() -> None:
    """Two launches for 65 small ones, and one more for each 320 chunks of large ones."""
    for number, size, launches in ((64, 10, 1), (65, 10, 2), (1, 330 * 65536, 2)):
        roofline = Roofline()
        lists = [[torch.empty(size, device="meta") for _ in range(number)] for _ in range(2)]
        with roofline:
            torch._foreach_copy_(*lists)
        assert roofline.total.kernels == launches and roofline.total.bytes == 2 * number * size * 4
