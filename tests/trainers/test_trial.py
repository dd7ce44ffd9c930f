"""A user's own class with a fault is found before cases are read and anything is written."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from configs.errors import InputError
from configs.training import TrainingConfig
from inference.prediction.cli import main as predict
from tests.inference.models import plan
from tests.preprocessing.datasets import save
from tests.trainers.own_parts import wrong
from trainers import building, run, train

WRONG = "tests.trainers.own_parts.wrong"
OWN = "tests.trainers.own_parts.sound"
NETWORKS = {
    "MissingClass": r"returns scores \(2, 2, 8, 8, 8\) of torch.float32, expected .*\(2, 3, 8, 8, 8\) \(batch, classes, Z, Y, X\)",
    "HalfSize": r"returns scores \(2, 3, 8, 8, 4\).*expected .*\(2, 3, 8, 8, 8\)",
    "Unbatched": r"returns scores \(3, 8, 8, 8\).*expected .*\(2, 3, 8, 8, 8\)",
    "InfiniteScores": "scores are not finite",
    "NoGradient": "does not depend on the network's parameters",
    "ListInPrediction": r"returns a list, expected a tensor \(1, 3, 8, 8, 8\)",
    "WrongChannels": r"it fails in training on images \(2, 1, 8, 8, 8\) \(RuntimeError: .*sound.py|expected input",
    "CannotBeMade": r"it fails to be made \(KeyError: 'width'; wrong.py, line \d+: `raise KeyError",
}
LOSSES = {
    "VectorLoss": r"the loss is a tensor \(1,\), expected a scalar tensor",
    "NumberLoss": "the loss is a float, expected a scalar tensor",
    "NanLoss": "losses are not finite",
    "DetachedLoss": "does not depend on the network's parameters",
    "FailingLoss": r"fails on the network's scores and labels \(2, 8, 8, 8\)",
    "SquareRootLoss": "gradients are not finite",
}
AUGMENTATIONS = {
    "CroppingAugmentation": r"returns float32 \(1, 1, 8, 8, 7\), expected an array float32 \(1, 1, 8, 8, 8\)",
    "DoubleAugmentation": r"returns float64 .*expected an array float32",
    "NanAugmentation": "values that are not finite",
    "TupleAugmentation": "draw_spatial returns a tuple, expected a trainers.SpatialDraw",
    "FailingAugmentation": r"AttributeError: .*gaussian",
}
PARTS = [
    *((f"{WRONG}:{name}", "network", message) for name, message in NETWORKS.items()),
    *((f"{WRONG}:{name}", "loss", message) for name, message in LOSSES.items()),
    *((f"{WRONG}:{name}", "augmentation", message) for name, message in AUGMENTATIONS.items()),
    ("tests.trainers.no_such_module:Part", "trainer", "cannot be imported"),
]


@pytest.mark.parametrize(("name", "kind", "message"), PARTS)
def test_faults_are_found_before_anything_is_done(
    work: Path, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch, name: str, kind: str, message: str
) -> None:
    monkeypatch.setattr(building, "open_cases", lambda *words, **more: pytest.fail("cases were read"))
    wrong = config.model_copy(update={f"{kind}_class": name})
    with pytest.raises(InputError, match=message) as caught:
        train("Balls", work, "baseline", config=wrong, device="cpu")
    (fault,) = caught.value.faults
    assert fault.where == f"{kind} class `{name}`"
    assert not (work / "Balls" / "models").exists()


def test_trying_changes_no_random_numbers(work: Path, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows draws as if nothing had been tried."""
    own = {"network_class": "Network", "loss_class": "Loss", "augmentation_class": "Augmentation"}
    seen = []
    monkeypatch.setattr(run, "_fit", lambda *words: seen.append((torch.rand(1).item(), float(np.random.rand()))))
    for part in ("_validate", "_calibrate"):
        monkeypatch.setattr(run, part, lambda *words: None)
    for parts in ({}, {name: f"{OWN}:{part}" for name, part in own.items()}):
        torch.manual_seed(3)
        np.random.seed(3)
        train("Balls", work, "baseline", config=config.model_copy(update=parts), device="cpu")
    assert seen[0] == seen[1]


def test_a_trainer_with_its_own_steps_is_left_alone(work: Path, config: TrainingConfig) -> None:
    parts = {"network_class": f"{WRONG}:TwoResults", "trainer_class": f"{WRONG}:StepTrainer"}
    fold = train("Balls", work, "baseline", config=config.model_copy(update=parts | {"epochs": 1}), device="cpu")
    assert (fold / "weights_final.safetensors").is_file()
    with pytest.raises(InputError, match="it returns a dict, expected a tensor"):
        train("Balls", work, "baseline", config=config.model_copy(update=parts | {"trainer_class": None}), device="cpu", tag="x")


def test_prediction_tries_a_network_before_the_first_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from se_unet.weights import save_weights

    planned = plan()
    network = planned.network("3d_fullres", "baseline")
    name = f"{WRONG}:HalfSize"
    only = planned.only("3d_fullres", "baseline", network.model_copy(update={"network_class": name}))
    only.write(tmp_path / "model" / "plan.json")
    (tmp_path / "model" / "fold_0").mkdir()
    save_weights(wrong.HalfSize(network.network), tmp_path / "model" / "fold_0" / "weights_final.safetensors")
    save(tmp_path / "images/a_0000.nii.gz", np.random.default_rng(0).random((18, 21, 13), np.float32))
    words = [
        "-i",
        tmp_path / "images",
        "-o",
        tmp_path / "out",
        "-m",
        tmp_path / "model",
        "--network-class",
        name,
        "--device",
        "cpu",
    ]
    monkeypatch.setattr(sys, "argv", ["se_predict", *map(str, words)])
    assert predict() == 2
    printed = capsys.readouterr().err
    assert f"network class `{name}`: it returns scores (1, 3, 16, 16, 8)" in printed and "(1, 3, 16, 16, 16)" in printed
    assert not (tmp_path / "out").exists()
