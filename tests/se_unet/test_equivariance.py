"""The measurement of scale equivariance, the assertion for users' tests, and the documented example."""

import runpy

import pytest
import torch
from torch import nn

from se_unet import LiftingConvolution, assert_equivariant, equivariance_error
from tests.repository.test_imports import ROOT

STEP = 2 ** (1 / 3)
WIDTHS = [(0.75 * STEP**k,) * 3 for k in range(3)]
GRID = {"size": 40, "interior": 11}


def test_the_identity_is_equivariant() -> None:
    assert equivariance_error(lambda x: x, 0.9) < 1e-4


def test_a_lifting_convolution_passes() -> None:
    torch.manual_seed(0)
    assert_equivariant(LiftingConvolution(1, 4, WIDTHS), STEP, 5e-3, shift=1, **GRID)


def test_an_ordinary_convolution_fails_with_the_measured_error() -> None:
    torch.manual_seed(0)
    ordinary = nn.Conv3d(1, 4, 3, padding=1)
    measured = equivariance_error(ordinary, STEP, **GRID)
    with pytest.raises(AssertionError, match=rf"error at factor 1.26 is {measured:.3g}, above the limit of 0.005"):
        assert_equivariant(ordinary, STEP, 5e-3, **GRID)


def test_an_output_that_is_not_a_number_fails() -> None:
    with pytest.raises(AssertionError, match="is nan"):
        assert_equivariant(lambda x: x * torch.nan, 0.9, 1.0)


def test_a_translation_fails() -> None:
    with pytest.raises(AssertionError, match="above the limit"):
        assert_equivariant(lambda x: x.roll(3, -1), 0.9, 1e-2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"interior": 61}, "an interior of 61 voxels"), ({"scales": 2, "shift": 2}, "leaves none of 2 scales")],
)
def test_settings_that_leave_nothing_to_compare_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        equivariance_error(lambda x: x, STEP, **settings)


def test_the_example_of_the_documentation_runs(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(ROOT / "docs" / "examples" / "equivariance.py"))
    lines = capsys.readouterr().out.splitlines()
    errors = [float(line.split()[-1]) for line in lines[:4]]
    assert max(errors[:3]) < 5e-3 < errors[3]
    assert lines[4].startswith("ordinary convolutions fail: the equivariance error at factor 1.26")
