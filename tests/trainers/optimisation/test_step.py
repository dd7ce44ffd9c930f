"""A step: in parts it is the same step, averaged weights follow, and what goes wrong is told."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from se_unet import build_network
from tests.trainers.balls import tiny_plan
from trainers.optimisation.compilation import compiled
from trainers.optimisation.loss import ClassLoss, DeepSupervision
from trainers.optimisation.precision import Precision
from trainers.optimisation.step import DeviceMemoryError, TrainingStep, explained_memory

CPU = torch.device("cpu")


def network() -> nn.Module:
    torch.manual_seed(0)
    return build_network(tiny_plan().network("3d_fullres", "baseline").network)


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(4, 1, 8, 8, 8, generator=generator), torch.randint(0, 3, (4, 8, 8, 8), generator=generator)


def take(net: nn.Module, parts: int = 1, average: AveragedModel | None = None, precision: Precision | None = None) -> float:
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    loss = DeepSupervision(ClassLoss(batch_dice=False))
    return TrainingStep(net, loss, optimiser, precision or Precision(CPU), 12, parts, average)(*batch())


@pytest.mark.parametrize("parts", [2, 3, 4])
def test_a_step_in_parts_is_the_same_step(parts: int) -> None:
    whole, divided = network(), network()
    losses = take(whole), take(divided, parts)
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    for expected, found in zip(whole.parameters(), divided.parameters(), strict=True):
        assert torch.allclose(expected, found, atol=1e-6)
    assert not torch.equal(next(network().parameters()), next(whole.parameters()))


def test_averaged_weights_follow_the_weights() -> None:
    net = network()
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.75))
    before = [parameter.detach().clone() for parameter in net.parameters()]
    take(net, average=average)
    first = [parameter.detach().clone() for parameter in net.parameters()]
    take(net, average=average)
    for start, mid, end, mean in zip(before, first, net.parameters(), average.module.parameters(), strict=True):
        del start  # the first update copies
        assert torch.allclose(mean, 0.75 * mid + 0.25 * end, atol=1e-6)


def test_half_precision_is_close(recwarn: pytest.WarningsRecorder) -> None:
    exact, half = take(network()), take(network(), precision=Precision(CPU, "bf16"))
    assert exact != half
    assert half == pytest.approx(exact, abs=0.02)


def test_a_step_that_is_not_finite_leaves_no_trace() -> None:
    net = network()
    before = [parameter.detach().clone() for parameter in net.parameters()]
    images, labels = batch()
    images[0, 0, 0, 0, 0] = math.nan
    step = TrainingStep(net, DeepSupervision(ClassLoss(False)), torch.optim.SGD(net.parameters(), lr=0.1), Precision(CPU), 12)
    assert math.isnan(step(images, labels))
    assert all(torch.equal(old, new) for old, new in zip(before, net.parameters(), strict=True))


class Greedy(nn.Module):
    """Asks for more memory than the GPU has."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, image: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nMore lines")


def test_too_little_memory_is_one_clear_message() -> None:
    with (
        pytest.raises(DeviceMemoryError, match=r"Tried to allocate 20.00 GiB\.\).*accumulate=2.*--batch-size"),
        explained_memory(),
    ):
        take(Greedy())


def test_where_compilation_fails_the_network_runs_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(net: nn.Module, **options: object) -> nn.Module:
        raise RuntimeError("no compiler found\nand a long trace")

    monkeypatch.setattr(torch, "compile", refuse)
    net = network()
    state = torch.get_rng_state()
    assert compiled(net, torch.zeros(1, 1, 8, 8, 8), Precision(CPU)) is net
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "training continues without torch.compile, slower but with the same results: no compiler found"
    ]
    assert torch.equal(state, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in net.parameters())
