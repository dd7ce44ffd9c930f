"""The way of class scores from the planned grid back to the image's slices."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from configs.plan import ModelPlan
from inference import PredictionOptions, Predictor
from inference.model import Model
from preprocessing.geometry.affine import Geometry
from preprocessing.resample import LABEL_ORDER, apply_matrices, resampling_matrices, returning_matrices, returning_matrix
from se_unet.separable import spline_matrix
from tests.inference.models import plan

SLICES = st.integers(1, 40)


@settings(max_examples=200, deadline=None)
@given(SLICES, SLICES)
def test_what_a_slice_was_copied_to_comes_back_to_it(planned: int, stored: int) -> None:
    copies, back = spline_matrix(stored, planned, 0).float(), returning_matrix(planned, stored)
    torch.testing.assert_close(back.sum(1), torch.ones(stored))
    assert (back >= 0).all()
    copied = copies.any(0)
    torch.testing.assert_close((back @ copies)[copied], torch.eye(stored)[copied])


@settings(max_examples=200, deadline=None)
@given(SLICES, SLICES)
def test_a_slice_left_out_lies_between_its_neighbours(planned: int, stored: int) -> None:
    """Positions come back as positions, as in any linear interpolation; beyond the first and last copy they stay there."""
    origin = (spline_matrix(stored, planned, 0) @ torch.arange(stored, dtype=torch.float64)).float()
    expected = torch.arange(stored).float().clamp(origin.min(), origin.max())
    torch.testing.assert_close(returning_matrix(planned, stored) @ origin, expected, atol=1e-4, rtol=0)


@settings(max_examples=200, deadline=None)
@given(SLICES, SLICES, st.data())
def test_some_slices_need_few_planes(planned: int, stored: int, data: st.DataObject) -> None:
    """Prediction keeps no more planes in memory than the slices cover, and one or two copies on either side."""
    first = data.draw(st.integers(0, stored - 1))
    last = data.draw(st.integers(first + 1, stored))
    needed = returning_matrix(planned, stored)[first:last].any(0).nonzero()
    reach = int(needed[-1] - needed[0]) + 1
    assert reach <= (last - first) * planned / stored + 2 * max(1, planned / stored) + 2


@pytest.mark.parametrize("shape", [(4, 20, 20), (15, 20, 20), (10, 14, 30), (10, 10, 10)])
def test_without_thick_slices_nothing_changes(shape: tuple[int, int, int]) -> None:
    stored = (10, 20, 20)
    for one, other in zip(
        returning_matrices(shape, stored, None), resampling_matrices(shape, stored, LABEL_ORDER, None), strict=True
    ):
        assert (one is None and other is None) or torch.equal(one, other)  # type: ignore[arg-type]


def test_slices_in_between_are_not_repeated() -> None:
    """A border that moves steadily from slice to slice comes back as it was; by the nearest slice it stays and jumps (control)."""
    stored, planned = (17, 8, 40), (6, 8, 40)
    position = np.arange(17, dtype=np.float32)[:, None, None] * 1.5 + 6
    inside = np.clip(0.5 + 0.02 * (position - np.arange(40, dtype=np.float32) - 0.5), 0, 1) * np.ones(stored, np.float32)
    truth = (inside > 0.5).sum((1, 2)) // 8
    scores = apply_matrices(torch.from_numpy(inside), resampling_matrices(stored, planned, LABEL_ORDER, 0))
    back, nearest = (
        (apply_matrices(scores, matrices) > 0.5).sum((1, 2)).numpy() // 8
        for matrices in (returning_matrices(planned, stored, 0), resampling_matrices(planned, stored, LABEL_ORDER, 0))
    )
    seen = slice(1, 16)
    assert np.abs(back[seen] - truth[seen]).max() <= 1 and (np.diff(back[seen]) > 0).all()
    assert (np.diff(nearest[seen]) == 0).sum() >= 8


class Brightness(torch.nn.Module):
    """Finds the bright voxels, less surely the nearer they are to the limit."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([-image, image, torch.full_like(image, -50)], dim=1)


def thin_slices() -> tuple[NDArray[np.float32], NDArray[np.bool_], Geometry]:
    """A slanted cylinder in slices of 2 mm, with a soft border: its image, its truth and its grid."""
    z, y, x = np.indices((30, 24, 48), np.float32)
    image = 8 - np.hypot(y - 12, x - 12 - 0.8 * z)
    return image[None], image > 0, Geometry.from_spacing(image.shape, (2.0, 1.0, 1.0))


def test_a_model_of_thick_slices_segments_thin_ones_without_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    image, truth, geometry = thin_slices()
    model = Model(ModelPlan(plan(spacing=(10.0, 1.0, 1.0))), {"0": Brightness()})
    predictor = Predictor(model, "cpu", PredictionOptions(mirror=False, scales=(1.0,)))
    found = predictor.segment(image, geometry).labels == 3
    way_back = "inference.predictor.returning_matrices"
    monkeypatch.setattr(way_back, lambda shape, stored, axis: resampling_matrices(shape, stored, LABEL_ORDER, axis))
    before = predictor.segment(image, geometry).labels == 3
    assert dice(found, truth) > dice(before, truth) + 0.02
    assert repeated(found[2:-2]) == 0 and repeated(before) >= 10


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def repeated(labels: NDArray[np.bool_]) -> int:
    return int(((labels[1:] == labels[:-1]).all((1, 2)) & labels[1:].any((1, 2))).sum())
