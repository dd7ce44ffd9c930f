"""Images in memory: the right voxels, the same kind of image, the same place in space."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from numpy.typing import NDArray

from configs.dataset import DatasetDescription
from configs.errors import InputError
from configs.plan import ModelPlan
from inference import PredictionOptions, Predictor
from inference.engine.assemble import Wanted, decision_rule
from inference.options import FAST
from preprocessing.geometry.affine import Geometry
from tests.inference.models import LABELS, plan, threshold_model, write_model

PLAIN = PredictionOptions(mirror=False, scales=(1.0,))
CANONICAL = (1.1, 0.7, 1.3)  # spacing of the permuted images below, once they are turned


def image(shape: tuple[int, int, int] = (18, 21, 13), seed: int = 0) -> NDArray[np.float32]:
    """Values far from the thresholds 1 and 2, with a border of zeros that is cropped."""
    random = np.random.default_rng(seed)
    values = random.choice(np.array([0.4, 1.5, 2.6], np.float32), shape)
    values[0] = values[:, -2:] = 0
    return values


def expected(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.select([values > 2, values > 1], [7, 3], 0).astype(np.uint8)


def oblique() -> NDArray[np.float64]:
    """An affine with permuted, reversed and tilted axes; not exact in float32."""
    tilt = 0.2
    rotation = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    affine = np.eye(4)
    affine[:3, :3] = (rotation @ np.array([[0, 0, -1.0], [1, 0, 0], [0, -1, 0]])) * [0.7, 1.1, 1.3]
    affine[:3, 3] = 12.34, -56.78, 9.1
    return affine


def test_an_array_in_an_array_out() -> None:
    values = image()
    labels = Predictor(threshold_model(), "cpu", PLAIN)(values, spacing=(1, 1, 1))
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, expected(values))


@pytest.mark.parametrize(("spacing", "is_told"), [((0.001,) * 3, True), ((11, 12, 13), True), ((0.2, 1, 0.05), False)])
def test_another_unit_is_told(spacing: tuple[float, ...], is_told: bool, caplog: pytest.LogCaptureFixture) -> None:
    Predictor(threshold_model(), "cpu", PLAIN).prepare(image((6, 7, 8))[None], Geometry.from_spacing((6, 7, 8), spacing))
    assert ("the image: its spacing" in caplog.text) == is_told


def test_labels_lie_where_they_should_after_resampling() -> None:
    """At another spacing a segmentation is that of the interpolated image: right away from borders."""
    values = np.zeros((20, 24, 16), np.float32)
    values[4:12, 6:18, 3:9] = 3
    labels = Predictor(threshold_model(spacing=(1.5, 1.0, 0.8)), "cpu", PLAIN)(values, spacing=(2.0, 1.3, 1.0))
    assert labels[5:11, 7:17, 4:8].min() == labels.max() == 7
    outside = np.ones(values.shape, bool)
    outside[3:13, 5:19, 2:10] = False
    assert not labels[outside].any()


@pytest.mark.parametrize("options", [PredictionOptions(), FAST, PredictionOptions(scales=(0.9, 1.2), step=1.0)])
def test_ensembling_keeps_a_large_structure(options: PredictionOptions) -> None:
    values = np.full((24, 24, 24), 0.1, np.float32)
    values[6:18, 6:18, 6:18] = 3
    labels = Predictor(threshold_model(), "cpu", options)(values, spacing=(1, 1, 1))
    dice = 2 * ((labels == 7) & (values == 3)).sum() / ((labels == 7).sum() + (values == 3).sum())
    assert dice > 0.85 and set(np.unique(labels)) <= {0, 3, 7}


def test_nibabel_keeps_its_geometry_to_the_bit() -> None:
    values = image()
    header = nib.Nifti1Header()
    header.set_qform(oblique(), code=1)
    header.set_sform(oblique() + 1e-3, code=2)
    source = nib.Nifti1Image(values.T, header.get_best_affine(), header)
    result = Predictor(threshold_model(CANONICAL), "cpu", PLAIN)(source)
    assert isinstance(result, nib.Nifti1Image) and result.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asanyarray(result.dataobj).T, expected(values))
    fields = ("pixdim", "qform_code", "sform_code", "quatern_b", "qoffset_x", "srow_x", "srow_y", "srow_z", "xyzt_units", "dim")
    np.testing.assert_array_equal(result.affine, source.affine)
    for field in fields:
        np.testing.assert_array_equal(result.header[field], source.header[field])


def test_simpleitk_keeps_its_geometry_to_the_bit() -> None:
    values = image()
    source = SimpleITK.GetImageFromArray(values)
    source.SetSpacing((0.7, 1.1, 1.3))
    source.SetOrigin((12.34, -56.78, 9.1))
    source.SetDirection((0, 0, -1, 1, 0, 0, 0, -1, 0))
    result = Predictor(threshold_model(CANONICAL), "cpu", PLAIN)(source)
    for name in ("GetSpacing", "GetOrigin", "GetDirection", "GetSize"):
        assert getattr(result, name)() == getattr(source, name)()
    assert result.GetPixelID() == SimpleITK.sitkUInt8
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(result), expected(values))


@pytest.mark.parametrize("policy", ["canonical", "as-stored"])
def test_orientation_changes_nothing_for_a_network_without_one(policy: str) -> None:
    model = threshold_model()
    model = type(model)(ModelPlan(model.plan.whole.model_copy(update={"orientation": policy})), model.networks)
    affine = oblique()
    affine[:3, :3] /= np.linalg.norm(affine[:3, :3], axis=0)
    result = Predictor(model, "cpu", PLAIN)(nib.Nifti1Image(image().T, affine))
    np.testing.assert_array_equal(np.asanyarray(result.dataobj).T, expected(image()))


def test_channels_in_whatever_form() -> None:
    description = DatasetDescription(name="toy", channels=("A", "B"), labels={"background": 0, "grey": 3, "bright": 7})

    class First(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            first = x[:, :1]
            return torch.cat([torch.zeros_like(first), 20 * (first - 1), 20 * (2 * first - 3)], 1)

    model = type(threshold_model())(ModelPlan(plan(description)), {"0": First()})
    predictor = Predictor(model, "cpu", PLAIN)
    values, other = image(), image(seed=1)
    arrays = [np.stack([values, other]), [values, other]]
    for array in arrays:
        np.testing.assert_array_equal(predictor(array, spacing=(1, 1, 1)), expected(values))
    four = nib.Nifti1Image(np.stack([values.T, other.T], axis=-1), np.eye(4))
    result = predictor(four)
    assert result.shape == values.T.shape
    np.testing.assert_array_equal(np.asanyarray(result.dataobj).T, expected(values))
    vector = SimpleITK.GetImageFromArray(np.stack([values, other], axis=-1), isVector=True)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(predictor(vector)), expected(values))
    with pytest.raises(InputError, match=r"the image has 1 channels, but `dataset\.json` names 2"):
        predictor(values, spacing=(1, 1, 1))


def test_what_cannot_be_segmented_is_said() -> None:
    predictor = Predictor(threshold_model(), "cpu", PLAIN)
    with pytest.raises(ValueError, match="needs its spacing"):
        predictor(image())
    with pytest.raises(ValueError, match="other images have their own"):
        predictor(nib.Nifti1Image(image().T, np.eye(4)), spacing=(1, 1, 1))
    with pytest.raises(TypeError, match="not str"):
        predictor("image.nii.gz")
    with pytest.raises(ValueError, match=r"\(Z, Y, X\) or \(C, Z, Y, X\)"):
        predictor(image()[0], spacing=(1, 1, 1))
    broken = image()
    broken[3, 3, 3] = np.nan
    with pytest.raises(InputError, match="1 of 4914 voxels of channel 0 are NaN or infinite"):
        predictor(broken, spacing=(1, 1, 1))


def test_probabilities_lie_on_the_image_and_decide_it() -> None:
    values = image()
    geometry = Geometry.from_spacing(values.shape, (1.0, 1.0, 1.0))
    result = Predictor(threshold_model(), "cpu").segment(values[None], geometry, Wanted(probabilities=True))
    assert result.probabilities is not None and result.probabilities.shape == (3, *values.shape)
    np.testing.assert_allclose(result.probabilities.sum(0), 1, atol=1e-5)
    np.testing.assert_array_equal(np.array([0, 3, 7])[result.probabilities.argmax(0)], result.labels)
    assert (result.probabilities[0, 0] == 1).all()  # outside the crop


def test_label_values_and_regions() -> None:
    scores = torch.tensor([[0.2, 0.1, 0.5], [0.3, 0.8, 0.5], [0.5, 0.1, 0.0]])[:, :, None, None]
    assert decision_rule(LABELS)(scores).flatten().tolist() == [7, 3, 0]
    regions = DatasetDescription(
        name="toy", channels=("MR",), labels={"background": 0, "whole": (1, 2, 4), "core": (2, 4)}, regions_class_order=(1, 4)
    )
    scores = torch.tensor([[0.9, 0.9, 0.1, 0.5], [0.1, 0.6, 0.6, 0.5]])[:, :, None, None]
    assert decision_rule(regions)(scores).flatten().tolist() == [1, 4, 4, 0]


def test_label_types_are_as_small_as_the_values_allow() -> None:
    for highest, kind in ((255, np.uint8), (256, np.int16), (40_000, np.int32)):
        description = DatasetDescription(name="toy", channels=("MR",), labels={"background": 0, "grey": 3, "bright": highest})
        model = type(threshold_model())(ModelPlan(plan(description)), threshold_model().networks)
        assert Predictor(model, "cpu", PLAIN)(image(), spacing=(1, 1, 1)).dtype == kind


def probabilities(folder: Path, **options: Any) -> NDArray[np.float32]:
    """Of one image, by the predictor that these options load."""
    values = np.random.default_rng(0).normal(size=(1, 10, 17, 12)).astype(np.float32)
    predictor = Predictor.load(folder, "cpu", **options)
    found = predictor.segment(
        values, Geometry.from_spacing(values.shape[1:], (1, 1, 1)), Wanted(probabilities=True)
    ).probabilities
    assert found is not None
    return found


def test_folds_of_a_model_folder(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    together = probabilities(folder, options=PLAIN)
    alone = [probabilities(folder, folds=[fold], options=PLAIN) for fold in (0, "1")]
    np.testing.assert_allclose(together, (alone[0] + alone[1]) / 2, atol=1e-6)
    assert np.abs(alone[0] - alone[1]).max() > 1e-3


def test_without_calibration_nothing_is_searched(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", folds=("0",))
    explicit = probabilities(folder, options=PredictionOptions(scales=(1.0,)))
    assert np.array_equal(probabilities(folder), explicit)


def test_threads_share_a_predictor(tmp_path: Path) -> None:
    predictor = Predictor.load(write_model(tmp_path / "model", folds=("0",)), "cpu")
    images = [image((10, 12, 9), seed) for seed in range(8)]

    def segment(values: NDArray[np.float32]) -> NDArray[np.uint8]:
        return predictor(values, spacing=(1.0, 1.0, 1.0))

    one_by_one = [segment(values) for values in images]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(segment, images))
    for first, second in zip(one_by_one, together, strict=True):
        np.testing.assert_array_equal(first, second)


def test_model_folders_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the model folder does not exist"):
        Predictor.load(tmp_path / "no")
    with pytest.raises(InputError) as caught:
        Predictor.load(tmp_path)
    assert len(caught.value.faults) == 2  # no plan, no weights
    folder = write_model(tmp_path / "model")
    with pytest.raises(InputError, match=r"fold_3: no final weights \(folds with these: 0, 1\)"):
        Predictor.load(folder, folds=[0, 3])
    with pytest.raises(InputError, match="no best weights"):
        Predictor.load(folder, checkpoint="best")
    with pytest.raises(InputError, match="Choose one of final, best"):
        Predictor.load(folder, checkpoint="latest")
    (folder / "fold_0/weights_final.safetensors").write_bytes(b"junk")
    with pytest.raises(InputError, match="the weights cannot be read"):
        Predictor.load(folder)
    with pytest.raises(InputError, match="device `cuda:99`"):
        Predictor(threshold_model(), "cuda:99")
    written = plan()
    twice = written.model_copy(update={"configurations": {"a": written.configuration("3d_fullres")} | written.configurations})
    twice.write(folder / "plan.json")
    with pytest.raises(InputError, match="it plans 2 networks in 2 configurations"):
        Predictor.load(folder)


@pytest.mark.parametrize("wrong", [{"step": 0}, {"step": 1.5}, {"scales": ()}, {"scales": (-1.0,)}, {"tile_batch": 0}])
def test_options_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="not"):
        PredictionOptions(**wrong)
