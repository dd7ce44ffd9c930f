"""Two processes that share a batch have the gradients that one process has."""

from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, distributed, nn

from configs.errors import InputError
from configs.training import TrainingConfig
from se_unet import build_network
from tests.faults.server import CONTEXT
from tests.trainers.balls import tiny_plan, write_work
from trainers import train
from trainers.monitoring.history import History
from trainers.monitoring.pseudo_dice import PseudoDice
from trainers.optimisation.distributed import share_gradients, share_of
from trainers.optimisation.loss import ClassLoss, DeepSupervision, RegionLoss
from trainers.optimisation.precision import Precision
from trainers.optimisation.step import TrainingStep

KINDS = ("classes", "batch dice", "regions", "in parts")
CPU = torch.device("cpu")
CONFIG = TrainingConfig(epochs=2, iterations=3, validation_iterations=2, workers=0, learning_rate=0.02, polynomial=0)


def loss_of(kind: str) -> nn.Module:
    if kind == "regions":
        return DeepSupervision(RegionLoss(((1, 2), (2,), (1,)), 4, batch_dice=True, ignore_index=3))
    return DeepSupervision(ClassLoss(batch_dice=kind == "batch dice", ignore_index=None if kind == "in parts" else 3))


def gradients(kind: str) -> list[Tensor]:
    """Gradients of this process's share of the batch, after they were shared, and Dice counted over all."""
    torch.manual_seed(0)
    network = build_network(tiny_plan().network("3d_fullres", "baseline").network)
    generator = torch.Generator().manual_seed(1)
    images, labels = torch.randn(4, 1, 8, 8, 8, generator=generator), torch.randint(0, 3, (4, 8, 8, 8), generator=generator)
    if kind != "in parts":
        labels[0, :6] = 3  # ignored: one process has fewer voxels that count
    mine = list(share_of(4))
    optimiser = torch.optim.SGD(network.parameters(), lr=0.0)
    step = TrainingStep(
        share_gradients(network, CPU), loss_of(kind), optimiser, Precision(CPU), 1e9, 2 if kind == "in parts" else 1
    )
    loss = step(images[mine], labels[mine])
    dice = PseudoDice(tiny_plan().dataset, CPU)
    with torch.no_grad():
        dice.add(network.eval()(images[mine]), labels[mine])
    found = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in network.parameters()]
    return [*found, torch.tensor([loss, *dice.values()])]


def write_gradients(folder: Path) -> None:
    found = {kind: gradients(kind) for kind in KINDS}
    if distributed.get_rank() == 1:
        torch.save(found, folder / "gradients.pt")


def train_fold(work: Path, resume: bool, epochs: int) -> None:
    config = CONFIG.model_copy(update={"epochs": epochs})
    with patch.object(
        History, "write_picture", lambda history, path: path.write_bytes(b"")
    ):  # drawing takes longer than training
        train("Balls", work, "baseline", config=config, device="cpu", resume=resume)


def process(rank: int, size: int, rendezvous: str, target: Any, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=size)
    target(*arguments)
    distributed.destroy_process_group()


def run_two(folder: Path, target: Any, *arguments: Any) -> None:
    """Run the target in two processes; each must end well."""
    folder.mkdir(exist_ok=True)
    rendezvous = f"file://{folder}/rendezvous"
    (folder / "rendezvous").unlink(missing_ok=True)
    started = [CONTEXT.Process(target=process, args=(rank, 2, rendezvous, target, arguments)) for rank in range(2)]  # type: ignore[attr-defined]
    for one in started:
        one.start()
    for one in started:
        one.join(240)
        if one.is_alive():
            one.kill()
    assert [one.exitcode for one in started] == [0, 0]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Tensor]]:
    """The gradients that two processes have."""
    folder = tmp_path_factory.mktemp("gradients")
    run_two(folder, write_gradients, folder)
    found: dict[str, list[Tensor]] = torch.load(folder / "gradients.pt", weights_only=True)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_have_the_gradients_of_one(shared: dict[str, list[Tensor]], kind: str) -> None:
    for expected, gradient in zip(gradients(kind), shared[kind], strict=True):
        assert torch.allclose(expected, gradient, atol=1e-5, equal_nan=True)


@pytest.mark.slow
def test_two_processes_train_and_resume_as_one_does(tmp_path: Path) -> None:
    work = write_work(tmp_path / "work")
    run_two(tmp_path / "first", train_fold, work, False, 1)
    run_two(tmp_path / "second", train_fold, work, True, 2)
    fold = work / "Balls" / "models" / "3d_fullres_baseline" / "fold_0"
    alone = write_work(tmp_path / "alone")
    train_fold(alone, False, 2)
    expected = load_file(alone / "Balls" / "models" / "3d_fullres_baseline" / "fold_0" / "weights_final.safetensors")
    found = load_file(fold / "weights_final.safetensors")
    assert (fold / "validation" / "metrics.json").is_file()
    for name, weights in expected.items():
        assert torch.allclose(weights, found[name], atol=2e-4), name


def test_a_batch_that_cannot_be_shared_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainers.optimisation.distributed.processes", lambda: 2)
    with pytest.raises(InputError, match=r"5 patches cannot be divided evenly among 2 processes.*--batch-size 6"):
        share_of(5)
