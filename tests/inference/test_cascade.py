"""The second network of a cascade sees what the first made of the image; slices keep their own spacing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from configs.plan import ModelPlan
from inference import PredictionOptions, Predictor
from inference.cascade import cascade_channels, find_first_stage
from inference.model import Model
from preprocessing.geometry.affine import Geometry
from preprocessing.pipeline import preprocess
from tests.inference.models import LABELS, plan, threshold_model
from tests.inference.test_predictor import expected, image

PLAIN = PredictionOptions(mirror=False, scales=(1.0,))


class Copying(nn.Module):
    """Gives what the first stage gave, with the two classes exchanged."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] == 3  # image, class 1, class 2
        return torch.cat([torch.full_like(x[:, :1], 0.5), x[:, 2:], x[:, 1:2]], 1)


def second_stage() -> Model:
    first = plan()
    configuration = first.configuration("3d_fullres").model_copy(update={"previous": "3d_lowres"})
    return Model(ModelPlan(first.model_copy(update={"configurations": {"3d_cascade_fullres": configuration}})), {"0": Copying()})


def test_the_second_network_sees_the_first_ones_segmentation() -> None:
    values = image()
    predictor = Predictor(second_stage(), "cpu", PLAIN, Predictor(threshold_model(), "cpu", PLAIN))
    first = expected(values)
    exchanged = np.select([first == 3, first == 7], [7, 3], 0)
    np.testing.assert_array_equal(predictor(values, spacing=(1, 1, 1)), exchanged)


def test_channels_lie_on_the_prepared_grid() -> None:
    values = image()
    geometry = Geometry.from_spacing(values.shape, (1.0, 1.0, 1.0))
    coarse = plan(spacing=(2.0, 1.5, 1.0))
    prepared = preprocess(values[None], None, geometry, coarse.configuration("3d_fullres"), "canonical")
    indices = np.searchsorted((0, 3, 7), expected(values)).astype(np.int16)
    channels = cascade_channels(indices, prepared.trace, LABELS)
    assert channels.shape == (2, *prepared.trace.resampled_shape) and channels.dtype == np.float32
    assert set(np.unique(channels)) <= {0, 1} and channels.sum(0).max() == 1


def test_the_first_stage_is_found_beside_the_second(tmp_path: Path) -> None:
    second = tmp_path / "3d_cascade_fullres_se_mine"
    with pytest.raises(ValueError, match="3d_lowres_se_mine: the first stage of the cascade is missing"):
        find_first_stage([second_stage()], [second])
    (tmp_path / "3d_lowres_se_mine").mkdir()
    plan().write(tmp_path / "3d_lowres_se_mine/plan.json")
    assert find_first_stage([second_stage()], [second]) == tmp_path / "3d_lowres_se_mine"
    assert find_first_stage([threshold_model()], [tmp_path]) is None


def test_slices_keep_their_own_spacing() -> None:
    planned = plan(spacing=(1.0, 1.5, 1.5))
    configuration = planned.configuration("3d_fullres").model_copy(update={"slice_axis": 0})
    values = image()
    prepared = preprocess(values[None], None, Geometry.from_spacing(values.shape, (4.0, 1.0, 1.0)), configuration, "canonical")
    assert prepared.trace.resampled_spacing == (4.0, 1.5, 1.5)
    assert prepared.image.shape[1] == 17  # all slices but the empty one
