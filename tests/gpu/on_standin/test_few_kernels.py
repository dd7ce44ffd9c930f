"""Weights are converted together, and the loss of all grids is computed together, with the numbers that they have one by one."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from configs.network import NetworkConfig
from se_unet.builder import build_network
from se_unet.layers import half_weights
from se_unet.layers.fused import class_sums, mixing
from se_unet.layers.half_weights import converted
from se_unet.layers.pointwise import ScaleMixing
from tests.gpu.standin.ledger import Ledger
from tests.same_results.networks import SMALL_NETWORKS
from trainers.optimisation import summed_loss
from trainers.optimisation.loss import ClassLoss, DeepSupervision, Emphasis

NETWORKS = {
    "se": SMALL_NETWORKS["se one scale"],
    "residual": SMALL_NETWORKS["se residual"],
    "mixing": SMALL_NETWORKS["se mixing"],
    "renormalise": SMALL_NETWORKS["se tensor"],
    "mixed": SMALL_NETWORKS["se one scale"] | {"family": "mixed"},
}


def network(name: str, **changed: Any) -> nn.Module:
    torch.manual_seed(0)
    return build_network(NetworkConfig.model_validate((NETWORKS | SMALL_NETWORKS)[name] | changed)).to("cuda")


def image() -> Tensor:
    return torch.randn((2, 2, 8, 16, 16), generator=torch.Generator().manual_seed(1)).to("cuda")


def step(part: nn.Module, dtype: torch.dtype = torch.bfloat16) -> list[Tensor | None]:
    """Scores, and the gradients of all weights from scores of all stages but the coarsest."""
    part.train().zero_grad(set_to_none=True)
    torch.manual_seed(2)
    with torch.autocast("cuda", dtype):
        scores = part(image())
    stages = [scores] if isinstance(scores, Tensor) else scores
    torch.stack([stage.float().square().mean() for stage in stages[:1]]).sum().backward()
    return [stages[0].detach().cpu(), *(None if one.grad is None else one.grad.cpu() for one in part.parameters())]


def same(ones: list[Tensor | None], others: list[Tensor | None]) -> bool:
    pairs = list(zip(ones, others, strict=True))
    return all(one is other if one is None or other is None else torch.equal(one, other) for one, other in pairs)


def without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the conversion of weights to autocast."""
    monkeypatch.setattr("se_unet.unet.halved", lambda *arguments: nullcontext())


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_numbers_are_those_of_autocast(gpu: Ledger, name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit, and a head that no loss looks at has no gradient in either."""
    part = network(name)
    step(part, dtype)
    gpu.restart()
    found = step(part, dtype)
    launches = gpu.launches
    assert gpu.operators["_foreach_copy_"] == 2
    without(monkeypatch)
    gpu.restart()
    assert same(step(part, dtype), found) and any(one is None for one in found)
    assert gpu.launches > launches + 20 and not gpu.operators["_foreach_copy_"]


@pytest.mark.parametrize("where", ["checkpointing", "several processes", "float32", "compiled", "pyramid"])
def test_where_it_does_not_help_autocast_converts(gpu: Ledger, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pyramid sums the gradients of all members, in float32 as long as autocast converts the weights of each."""
    part = network("pyramid" if where == "pyramid" else "se", checkpointing=where == "checkpointing")
    if where == "several processes":
        monkeypatch.setattr(half_weights, "_are_several", lambda: True)
    if where == "compiled":
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    gpu.restart()
    step(part) if where != "float32" else part(image())
    assert not gpu.operators["_foreach_copy_"]


def test_weights_are_converted_once_for_many_tiles(gpu: Ledger) -> None:
    """And again after a change."""
    part, tile = network("se").eval(), image()
    results, conversions = [], []
    for does_change in (False, False, True):
        with torch.no_grad(), torch.autocast("cuda", torch.float16):
            if does_change:
                part.heads[0].scores.weight.mul_(2)  # type: ignore[index,union-attr,operator]
            gpu.restart()
            results.append(part(tile).cpu())
        conversions.append(gpu.operators["_foreach_copy_"])
    assert torch.equal(results[0], results[1]) and not torch.equal(results[1], results[2])
    assert conversions == [1, 0, 1]


def test_layouts_stay_and_places_are_aligned() -> None:
    given = [torch.randn(3), torch.randn(2, 5, 4).mT, torch.randn(4, 3, 2).permute(2, 0, 1), torch.randn(3, 1).expand(3, 4)]
    halves = converted(given, torch.bfloat16)
    assert all(torch.equal(one, other.bfloat16()) for one, other in zip(halves, given, strict=True))
    assert [one.stride() for one in halves[:3]] == [one.stride() for one in given[:3]] and halves[3].is_contiguous()
    assert all(one.storage_offset() % half_weights.ALIGNED == 0 for one in halves)
    assert len({one.untyped_storage().data_ptr() for one in halves}) == 1


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the fused kernels of loss and mixing, for which the operators of the CPU stand in."""
    for module in (summed_loss, mixing):
        monkeypatch.setattr(module, "prefers_fused", lambda *arguments: True)
    for operator in (class_sums._class_sums, class_sums._backward, mixing._product, mixing._sums):
        monkeypatch.setitem(operator._backend_fns, "cuda", operator._backend_fns["cpu"])


def logits_and_labels() -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(0)
    scores = [torch.randn(2, *(n,) * 3, 3, generator=generator).movedim(-1, 1).to("cuda").bfloat16() for n in (8, 4, 2)]
    labels = torch.randint(0, 4, (2, 8, 8, 8), generator=generator, dtype=torch.int16).to("cuda")
    return [one.requires_grad_() for one in scores], labels


@pytest.mark.parametrize("weights", [None, (2.0, 0.5)])
def test_the_loss_of_all_grids_takes_few_kernels(
    gpu: Ledger, kernels: None, weights: tuple[float, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, launches, waits = [], [], []
    for _ in range(2):
        loss = DeepSupervision(ClassLoss(True, 3, emphasis=Emphasis(weights))).to("cuda")
        scores, labels = logits_and_labels()
        loss(scores, labels)  # the weights of the stages come from the host
        gpu.restart()
        value = loss(scores, labels)
        value.backward()
        launches.append(gpu.launches)
        waits.append(gpu.number_of_waits)
        results.append([value.detach().cpu(), *(one.grad.float().cpu() for one in scores[:2])])
        monkeypatch.setattr(summed_loss, "prefers_fused", lambda *arguments: False)
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-4)
    assert not any(waits) and launches[0] < 0.8 * launches[1], launches


def test_mixing_takes_few_kernels(gpu: Ledger, kernels: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """And its constants are sent to the device once."""
    layer = ScaleMixing(4, 1).to("cuda")
    nn.init.normal_(layer.weight)
    x = torch.randn(2, 3, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).movedim(-1, 1).to("cuda").requires_grad_()
    results, launches = [], []
    for _ in range(2):
        layer(x)
        gpu.restart()
        y = layer(x)
        found = [y.detach(), *torch.autograd.grad(y, [x, layer.weight], y.detach())]
        launches.append(gpu.launches)
        assert not gpu.number_of_waits
        results.append([one.cpu() for one in found])
        monkeypatch.setattr(mixing, "prefers_fused", lambda *arguments: False)
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert launches[0] < launches[1] / 3, launches


def test_several_processes_keep_to_voxels(gpu: Ledger, kernels: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """They could choose differently, and would then wait for each other."""
    loss = DeepSupervision(ClassLoss(False)).to("cuda")
    scores, labels = logits_and_labels()
    for number, calls in ((1, 2), (2, 0)):
        monkeypatch.setattr(summed_loss, "processes", lambda number=number: number)
        gpu.restart()
        loss(scores, labels.clamp(max=2))
        assert gpu.operators["class_sums"] == calls, gpu.operators


def test_a_trial_compares_gradients(gpu: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one sample on all grids; a kernel that counted other voxels would be found out."""
    asked: list[Any] = []
    monkeypatch.setattr(summed_loss, "prefers_fused", lambda key, fused, plain, like: bool(asked.append((fused, plain, like))))
    scores, labels = logits_and_labels()
    DeepSupervision(ClassLoss(False)).to("cuda")(scores, labels.clamp(max=2))
    ((_, plain, like),) = asked
    assert like.shape == (1, 3 * (8**3 + 4**3)) and like.dtype == torch.bfloat16
    torch.manual_seed(0)
    row = torch.randn(like.shape).bfloat16().to("cuda")
    one, other = plain(row).float().cpu(), plain(row.flip(1)).float().cpu()
    assert one.shape == like.shape and one.abs().min() > 0 and not torch.equal(one, other)
