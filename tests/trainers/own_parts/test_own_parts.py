"""A user's own parts, given by name: they train, are recorded, resume and predict; nothing is imported that was not named."""

import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from configs.errors import InputError
from configs.named_parts import import_part
from configs.plan import Plan
from configs.training import TrainingConfig
from inference import Predictor
from trainers import train
from trainers.monitoring.history import History

OWN = "tests.trainers.own_parts.sound"


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(History, "write_picture", lambda history, path: path.write_bytes(b""))


def run(work: Path, config: TrainingConfig, **options: object) -> Path:
    return train("Balls", work, "baseline", config=config, device="cpu", **options)  # type: ignore[arg-type]


def test_all_of_them_train_resume_and_predict(work: Path, config: TrainingConfig) -> None:
    parts = {
        "network_class": "Network",
        "loss_class": "Loss",
        "trainer_class": "OwnTrainer",
        "augmentation_class": "Augmentation",
    }
    own = config.model_copy(update={name: f"{OWN}:{part}" for name, part in parts.items()} | {"epochs": 1})
    fold = run(work, own)
    assert (fold / "note.txt").read_text() == "mine"
    assert set(load_file(fold / "weights_final.safetensors")) == {"only.weight", "only.bias"}
    assert TrainingConfig.read(fold.parent / "training.json") == own
    assert Plan.read(fold.parent / "plan.json").network("3d_fullres", "baseline").network_class == f"{OWN}:Network"
    run(work, own.model_copy(update={"epochs": 2}), resume=True)
    predictor = Predictor.load(fold.parent, device="cpu", network_class=f"{OWN}:Network")
    assert predictor(np.zeros((8, 14, 12), np.float32), (2.0, 1.0, 1.0)).shape == (8, 14, 12)


def test_a_network_of_others_runs_only_where_it_is_named(work: Path, config: TrainingConfig) -> None:
    fold = run(work, config.model_copy(update={"network_class": f"{OWN}:Network", "epochs": 1}))
    sys.modules.pop(OWN)
    for allowed in (None, f"{OWN}:Other"):
        with pytest.raises(InputError, match=rf"its code runs only with --network-class.*--network-class {OWN}:Network"):
            Predictor.load(fold.parent, device="cpu", network_class=allowed)
    assert OWN not in sys.modules


def test_our_networks_predict_without_the_other_parts(work: Path, config: TrainingConfig) -> None:
    fold = run(work, config.model_copy(update={"loss_class": f"{OWN}:Loss", "epochs": 1}))
    sys.modules.pop(OWN)
    Predictor.load(fold.parent, device="cpu")
    assert OWN not in sys.modules


def test_the_loss_is_the_one_that_is_named(work: Path, config: TrainingConfig) -> None:
    import pandas as pd

    one_step = config.model_copy(update={"epochs": 1, "iterations": 1})
    own = run(work, one_step.model_copy(update={"loss_class": f"{OWN}:Loss"}), tag="own")
    usual = run(work, one_step, tag="usual")
    losses = [float(pd.read_csv(fold / "log.csv")["training_loss"].iloc[0]) for fold in (own, usual)]
    assert losses[0] > 5 * losses[1]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module_of_anyone:Part", "cannot be imported"),
        ("configs.errors:NoSuchPart", "configs.errors has no `NoSuchPart`"),
        ("tests.trainers.own_parts.broken:Part", "fails when it is imported"),
    ],
)
def test_names_that_lead_nowhere(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        import_part(name, "loss class")


@pytest.mark.parametrize("name", ["os.system('x')", "a:b:c", "no_colon", ":Part", "../file:Part"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="loss_class"):
        TrainingConfig(loss_class=name)
