"""Scale-robustness curves and calibration, on a tiny planned dataset with untrained networks."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from configs.files import write_json
from configs.plan import Plan
from inference.engine.scaling import scale_image, scaled_shape
from inference.evaluation.cli import main as evaluate_main
from inference.evaluation.robustness import (
    HeldOut,
    RobustnessResult,
    ValidationCase,
    load_validation_case,
    rescale,
    scale_robustness,
    stored_values,
    validation_cases,
)
from inference.model import load_model
from preprocessing.dataset.raw import open_dataset
from preprocessing.formats.images import write_labels, write_scalar
from preprocessing.geometry.affine import Geometry
from preprocessing.run import preprocess_dataset
from tests.inference.models import LABELS, write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder where a training leaves it, with splits and prepared cases."""
    root = tmp_path_factory.mktemp("robust")
    raw = root / "toy"
    for index in range(3):
        random = np.random.default_rng(index)
        labels = np.zeros((16, 18, 20), np.uint8)
        labels[3:9, 4:12, 5:15], labels[9:13, 4:8, 4:9] = 3, 7
        geometry = Geometry.from_spacing(labels.shape, (1.0, 1.0, 1.0))
        image = (labels / 3 + 0.1 * random.random(labels.shape)).astype(np.float32)
        write_scalar(raw / f"imagesTr/c{index}_0000.nii.gz", image, geometry)
        write_labels(raw / f"labelsTr/c{index}.nii.gz", labels, geometry)
    names = {"channel_names": {"0": "MR"}, "labels": dict(LABELS.labels), "numTraining": 3, "file_ending": ".nii.gz"}
    write_json(raw / "dataset.json", names)
    folder = write_model(root / "work/toy/models/3d_fullres_baseline")
    write_json(root / "work/toy/splits.json", [{"train": ["c1", "c2"], "val": ["c0"]}, {"train": ["c0"], "val": ["c1", "c2"]}])
    preprocess_dataset(
        open_dataset(raw), Plan.read(folder / "plan.json"), "3d_fullres", root / "work/toy/preprocessed/3d_fullres"
    )
    return folder


def a_case(model: Path) -> ValidationCase:
    return load_validation_case(model, load_model(model).plan, "0", "c0")


def test_anatomy_grows_and_spacing_stays(model: Path) -> None:
    case = a_case(model)
    for factor in (0.6, 1.5):
        image, indices, geometry = rescale(case, factor)
        assert geometry.spacing == case.geometry.spacing and geometry.shape == tuple(round(n * factor) for n in (16, 18, 20))
        assert image.shape[1:] == indices.shape == geometry.shape
        assert image.min() >= case.image.min() and image.max() <= case.image.max()
        grown = (indices == 1).sum() / (case.indices == 1).sum()
        assert grown == pytest.approx(factor**3, rel=0.15)
    assert rescale(case, 1.0)[0] is case.image


def test_nothing_around_the_anatomy_stays_nothing() -> None:
    image = np.zeros((2, 20, 20, 20), np.float32)
    image[:, 5:15, 5:15, 5:15] = 100 + np.random.default_rng(0).normal(0, 10, (2, 10, 10, 10))
    case = ValidationCase("c", "0", image, (image[0] > 0).astype(np.int16), Geometry.from_affine((20, 20, 20), np.eye(4)))
    for factor in (0.7, 0.9, 1.5):
        rescaled, indices, _ = rescale(case, factor)
        assert ((rescaled != 0).all(0) == (indices == 1)).mean() > 0.98
        rippled = scale_image(torch.from_numpy(image), scaled_shape((20, 20, 20), factor)).numpy()
        assert (rippled != 0).mean() > 1.5 * (rescaled != 0).mean()  # what splines alone leave


def test_values_of_files_come_back(model: Path) -> None:
    values = stored_values(a_case(model).indices, LABELS)
    assert set(np.unique(values)) == {0, 3, 7}


def test_each_case_is_predicted_by_the_fold_that_has_not_seen_it(model: Path) -> None:
    assert validation_cases(model, "1") == ["c1", "c2"]
    with pytest.raises(ValueError, match=r"fold all: .*has no validation cases"):
        validation_cases(model, "all")
    result = scale_robustness(HeldOut(model, device="cpu", mirror=False), (1.0, 0.8), [(1.0,), (0.8, 1.0)])
    assert [(point.scale, point.ensemble, point.cases) for point in result.points] == [
        (scale, ensemble, 3) for scale in (0.8, 1.0) for ensemble in ((1.0,), (0.8, 1.0))
    ]
    one = scale_robustness(HeldOut(model, [1], device="cpu", mirror=False, limit=1), (1.0,))
    assert one.points[0].cases == 1


def test_the_command_writes_a_curve_and_looks(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def run(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["se_evaluate", *map(str, words)])
        return evaluate_main()

    common = ("-m", model, "--device", "cpu", "--no-mirror", "--quiet")
    assert run(*common, "--scales", 0.8, 1, "--ensemble", 0.8, 1, "--search", "--cases", 1) == 0
    printed = capsys.readouterr().out
    assert "ensemble 0.8 1" in printed and "search" in printed
    assert len(RobustnessResult.read(model / "scale_robustness.json").points) == 6
    assert (model / "scale_robustness.csv").read_text().startswith("scale,ensemble,mean_foreground_dice,grey,bright,cases\n")
    assert run(*common, "--calibrate") == 0
    assert {path.parent.name for path in model.glob("fold_*/looks.json")} == {"fold_0", "fold_1"}
    assert not (model / "calibration.json").exists(), "three cases are too few"
    assert run(*common, model, model, "--scales", 0, "--cases", 0) == 2
    assert "3 faults" in capsys.readouterr().err
    assert run("--quiet") == 2
