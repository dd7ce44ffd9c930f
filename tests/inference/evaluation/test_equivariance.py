"""The measured error of functions whose error is known."""

import numpy as np
import pytest
import torch

from configs.folders import EQUIVARIANCE
from inference.evaluation.equivariance import FACTORS, case_errors, equivariance_curve, obstacle
from inference.report.trained import read_trained
from tests.inference.report.models import write_trained

SIZE, ORIGIN = (32, 32, 32), (16, 16, 16)


def images(number: int = 2) -> list:
    """Smooth blobs, larger than what is seen."""
    z, y, x = np.meshgrid(*[np.arange(60) - 30.0] * 3, indexing="ij")
    made = [np.exp(-((z - n) ** 2 + (y / 1.5) ** 2 + x**2) / 60) for n in range(number)]
    return [(torch.tensor(image, dtype=torch.float32)[None], (30, 30, 30)) for image in made]


def test_what_acts_on_each_voxel_alone_is_equivariant() -> None:
    errors = case_errors(lambda x: torch.cat([x, x**2], 1), images(), SIZE, ORIGIN, FACTORS)
    assert len(errors) == len(FACTORS) and max(errors) < 1e-3


def test_what_looks_for_one_size_is_not() -> None:
    def blurred(x: torch.Tensor) -> torch.Tensor:
        return x - torch.nn.functional.avg_pool3d(x, 9, 1, 4)

    small, large = case_errors(blurred, images(), SIZE, ORIGIN, (1.1, 1.4))
    assert 1e-3 < small < large and large > 0.1


def test_a_factor_of_one_changes_nothing_and_a_constant_has_no_error_to_tell() -> None:
    assert case_errors(lambda x: x, images(), SIZE, ORIGIN, (1.0,))[0] < 1e-10
    assert case_errors(torch.zeros_like, images(), SIZE, ORIGIN, (1.25,)) == (float("inf"),)


def test_curve_is_measured_once_for_its_weights(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("inference.evaluation.equivariance._field_error", lambda *given: 0.5)
    model = read_trained(write_trained(tmp_path))
    curve = equivariance_curve(model.folder, "cpu")
    assert curve.fold == "0" and curve.cases == 2 and curve.factors == FACTORS
    assert curve.on_cases is not None and curve.on_fields == (0.5,) * len(FACTORS) and curve.shown == curve.on_cases
    written = (model.folder / EQUIVARIANCE).stat().st_mtime_ns
    assert equivariance_curve(model.folder, "cpu") == curve and (model.folder / EQUIVARIANCE).stat().st_mtime_ns == written
    other = (model.folder / "fold_1/weights_final.safetensors").read_bytes()
    (model.folder / "fold_0/weights_final.safetensors").write_bytes(other)
    assert equivariance_curve(model.folder, "cpu").weights != curve.weights


def test_without_cases_fields_remain(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("inference.evaluation.equivariance._field_error", lambda *given: 0.25)
    folder = write_trained(tmp_path)
    (folder.parent.parent / "splits.json").unlink()
    curve = equivariance_curve(folder, "cpu")
    assert curve.cases == 0 and curve.on_cases is None and curve.mean == pytest.approx(0.25)


def test_cases_that_come_back_are_measured(tmp_path, monkeypatch) -> None:
    """A curve without cases, of a time when a disk was not there, must not stay."""
    monkeypatch.setattr("inference.evaluation.equivariance._field_error", lambda *given: 0.25)
    folder = write_trained(tmp_path)
    prepared = folder.parent.parent / "preprocessed"
    prepared.rename(tmp_path / "away")
    model = read_trained(folder)
    assert equivariance_curve(model.folder, "cpu").on_cases is None
    assert equivariance_curve(model.folder, "cpu").on_cases is None
    (tmp_path / "away").rename(prepared)
    assert equivariance_curve(model.folder, "cpu").cases == 2


def test_networks_of_slices_are_left_out(tmp_path) -> None:
    model = read_trained(write_trained(tmp_path))
    assert obstacle(model.plan) is None
    network = model.plan.network
    flat = network.network.model_copy(update={"strides": ((1, 1, 1), (1, 2, 2)), "kernels": ((1, 3, 3), (1, 3, 3))})
    network = network.model_copy(update={"network": flat, "patch_size": (1, 16, 16)})
    plan = model.plan.whole.only("3d_fullres", "baseline", network).whole
    sliced = plan.configurations["3d_fullres"].model_copy(update={"slice_axis": 0})
    plan.model_copy(update={"configurations": {"2d": sliced}}).write(model.folder / "plan.json")
    assert "slices" in (obstacle(read_trained(model.folder).plan) or "")
