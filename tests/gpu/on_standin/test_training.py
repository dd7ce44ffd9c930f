"""Training on a GPU: every setting runs to its end, waits once per step, and explains memory that runs out."""

import math
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from configs.network import ScaleGroup
from configs.plan import Plan
from configs.training import TrainingConfig
from inference.device import DeviceMemoryError
from tests.gpu.standin.ledger import Ledger
from tests.trainers.balls import write_work
from trainers import loop, train
from trainers.monitoring.history import History
from trainers.optimisation.precision import Precision
from trainers.optimisation.step import TrainingStep

SHORT = {
    "epochs": 2,
    "iterations": 3,
    "validation_iterations": 1,
    "workers": 0,
    "compile": "off",
    "learning_rate": 0.02,
    "momentum": 0.9,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "fp16": {"mixed_precision": "fp16"},
    "float32": {"mixed_precision": "off"},
    "augmented on the device": {"augment_on": "device"},
    "averaged weights": {"weight_average": 0.9},
    "in parts, with checkpointing": {"accumulate": 2, "checkpointing": True},
    "deterministic": {"deterministic": True},
    "AdamW": {"optimiser": "adamw", "schedule": "cosine", "warmup": 0.3},
    "no deep supervision, whole volumes": {"deep_supervision": False, "volumes_every": 1, "volumes": 1},
    "loading process": {"workers": 1},
    "sampling": {"oversampling": "probabilistic", "class_weights": {"dark": 2.0}, "mirror": False, "augmentation": False},
    "small structures": {"loss_weights": {"dark": 2.0}, "top_k": 0.2, "centreline": 0.5},
    "time limit": {"time_limit": 1e6},
    "fine-tuning": {"freeze": ("decoder",), "encoder_rate": 0.1},
}

QUICK = {"plain": ("default", "fp16"), "se": ("augmented on the device", "in parts, with checkpointing")}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(History, "write_picture", lambda history, path: path.write_bytes(b""))
    return write_work(tmp_path / "work")


def smooth(work: Path, number: int) -> None:
    """Let the planned network be a smooth one with that many scales."""
    path = work / "Balls" / "plan.json"
    content = Plan.read(path).model_dump(mode="json")
    network = content["configurations"]["3d_fullres"]["networks"]["baseline"]["network"]
    network["family"], network["scale_mixing"] = "se", int(number > 1)
    network["scale_group"] = ScaleGroup(smallest_sigma=0.9, number=number).model_dump(mode="json")
    Plan.model_validate(content).write(path)


def run(work: Path, device: str = "cuda", **settings: Any) -> Path:
    return train("Balls", work, "baseline", config=TrainingConfig.model_validate(SHORT | settings), device=device)


@pytest.mark.parametrize(
    ("family", "name"),
    [
        *(pytest.param("plain", name, marks=() if name in QUICK["plain"] else pytest.mark.thorough) for name in SETTINGS),
        *(pytest.param("se", name, marks=() if name in QUICK["se"] else pytest.mark.thorough) for name in SETTINGS),
        pytest.param("three scales", "default", marks=pytest.mark.thorough),
    ],
)  # fmt: skip
def test_every_setting_trains_to_its_end(gpu: Ledger, work: Path, family: str, name: str) -> None:
    if family != "plain":
        smooth(work, 3 if family == "three scales" else 1)
    fold = run(work, **SETTINGS[name])
    log = pd.read_csv(fold / "log.csv")
    assert len(log) == 2 and log["training_loss"].notna().all() and (log["skipped_steps"] == 0).all()
    weights = load_file(fold / "weights_final.safetensors")
    assert all(one.isfinite().all() for one in weights.values())
    assert (fold / "validation" / "metrics.json").is_file() and gpu.launches > 1000


def test_losses_are_those_of_the_cpu(gpu: Ledger, work: Path) -> None:
    """In float32; the CPU's random numbers stand for those of the GPU."""
    there = pd.read_csv(run(work, mixed_precision="off") / "log.csv")
    here_work = write_work(work.parent / "again" / "work")
    here = pd.read_csv(run(here_work, device="cpu") / "log.csv")
    assert here["training_loss"].to_numpy() == pytest.approx(there["training_loss"].to_numpy(), abs=1e-3)


def test_a_step_waits_once(gpu: Ledger, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the loss and the norm of the gradients together; batches arrive without a wait."""
    waits: list[int] = []
    places: set[tuple[str, str]] = set()
    step = loop.Trainer._step

    def counted(self: loop.Trainer, batch: Any) -> float:
        gpu.restart()
        value = step(self, batch)
        waits.append(gpu.number_of_waits)
        places.update(gpu.waits)
        return value

    monkeypatch.setattr(loop.Trainer, "_step", counted)
    run(work)
    assert waits[-3:] == [1, 1, 1], places


class NeverFinite(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return gradient * math.nan


class Overflowing(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv3d(1, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return NeverFinite.apply(self.layer(x))


@pytest.mark.parametrize("kind", ["fp16", "bf16"])
def test_gradients_that_are_never_finite_are_said(gpu: Ledger, kind: str) -> None:
    """In float16 the loss scale falls at first, which is normal; below 1 it is no longer."""
    network = Overflowing().to("cuda")
    before = network.layer.weight.detach().cpu().clone()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    step = TrainingStep(network, torch.nn.CrossEntropyLoss(), optimiser, Precision(torch.device("cuda:0"), kind), 12.0)  # type: ignore[arg-type]
    images, labels = torch.randn(1, 1, 4, 4, 4).to("cuda"), torch.zeros(1, 4, 4, 4, dtype=torch.long).to("cuda")
    values = [math.isfinite(step(images, labels)) for _ in range(25)]
    assert not any(values[17:]) and (kind == "fp16" or not any(values))
    assert torch.equal(network.layer.weight.detach().cpu(), before)


@pytest.mark.parametrize(
    ("settings", "share"), [({}, 0.0), ({}, 0.3), ({"volumes_every": 1, "volumes": 1}, 0.6), ({"weight_average": 0.9}, 0.9)]
)
def test_memory_that_runs_out_is_explained_wherever_it_does(
    gpu: Ledger, work: Path, settings: dict[str, Any], share: float
) -> None:
    """While the network moves, in a step, in the optimiser, in the validation of an epoch."""
    from trainers.optimisation import checkpoint

    saved = []
    keep = checkpoint.CheckpointKeeper.save

    def save(self: Any, state: Any) -> None:
        keep(self, state)
        saved.append(gpu.memory.allocations)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint.CheckpointKeeper, "save", save)
        run(work, **settings)
        total = saved[-1]
    gpu.restart()
    gpu.memory.fails = lambda number: number >= int(total * share)
    other = write_work(work.parent / "other" / "work")
    with pytest.raises(DeviceMemoryError, match="accumulate=2"):
        run(other, **settings)


def test_deterministic_trainings_ask_cublas_for_it(gpu: Ledger, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    run(work, deterministic=True, epochs=1)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    torch.use_deterministic_algorithms(False)


def test_too_little_memory_for_the_trial_step_of_compilation_is_explained(
    gpu: Ledger, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainers.optimisation import compilation

    def full(*arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(torch, "compile", lambda network, dynamic: network)
    monkeypatch.setattr(compilation, "_try", full)
    with pytest.raises(DeviceMemoryError, match=r"Tried to allocate 2.00 GiB.*accumulate=2"):
        run(work, compile="on")
