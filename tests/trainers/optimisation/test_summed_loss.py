"""The loss from sums over voxels is the loss that voxels have one by one, and so are its gradients."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from se_unet.layers.fused import class_sums
from trainers.optimisation import summed_loss
from trainers.optimisation.loss import ClassLoss, DeepSupervision, Emphasis, RegionLoss
from trainers.optimisation.summed_loss import loss_on_grids

WEIGHTS = (3.0, 0.5)


def grids(highest: int = 3) -> list[tuple[Tensor, Tensor]]:
    """Logits and labels of a batch of two on two grids; labels are views, and one label is missing in one sample."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, highest, (2, 8, 6, 10), generator=generator, dtype=torch.int16)
    labels[0][labels[0] == 2] = 1
    shapes = [(8, 6, 10), (4, 3, 5)]
    logits = [torch.randn(2, *shape, 3, generator=generator).movedim(-1, 1).requires_grad_() for shape in shapes]
    return [(logits[0], labels), (logits[1], labels[:, ::2, ::2, ::2])]


def both(batch_dice: bool, ignored: int | None, weights: Sequence[float] | None, highest: int) -> list[list[Tensor]]:
    """Losses and gradients by voxels, and by sums."""
    given = grids(highest)
    plain = ClassLoss(batch_dice, ignored, emphasis=Emphasis(weights))
    results = []
    for losses in (
        torch.stack([plain(*grid) for grid in given]),
        loss_on_grids(given, batch_dice, ignored, plain.emphasis.weights),
    ):
        results.append([losses.detach(), *torch.autograd.grad(losses[0] + 2 * losses[1], [logits for logits, _ in given])])
    return results


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("ignored", [None, 3])
@pytest.mark.parametrize("batch_dice", [False, True])
def test_sums_give_the_loss_of_voxels(batch_dice: bool, ignored: int | None, weights: Sequence[float] | None) -> None:
    expected, found = both(batch_dice, ignored, weights, 4 if ignored else 3)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_nothing_but_ignored_voxels() -> None:
    logits, labels = grids()[0]
    labels = torch.full_like(labels, 3)
    expected = ClassLoss(False, 3)(logits, labels)
    assert float(loss_on_grids([(logits, labels)], False, 3, None)[0].detach()) == pytest.approx(
        float(expected.detach()), abs=1e-6
    )


def test_another_setting_is_another_loss() -> None:
    """The comparison would fail if a setting had no effect on the sums."""
    settings = [(False, None, None), (True, None, None), (False, 2, None), (False, None, torch.tensor(WEIGHTS))]
    values = [float(loss_on_grids(grids(), *setting)[0].detach()) for setting in settings]
    assert min(abs(one - other) for one in values for other in values if one is not other) > 1e-4


def chosen(monkeypatch: pytest.MonkeyPatch, loss: torch.nn.Module) -> bool:
    """Whether a loss would be taken from sums where kernels are right and faster."""
    asked = []
    monkeypatch.setattr("trainers.optimisation.loss.prefers_sums", lambda *arguments: bool(asked.append(arguments)) or True)
    given = grids()
    value = DeepSupervision(loss)([given[0][0], given[1][0]], given[0][1])
    assert value.isfinite()
    return bool(asked)


def test_losses_that_need_voxels_keep_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(monkeypatch, ClassLoss(False)) and chosen(monkeypatch, ClassLoss(True, 3, emphasis=Emphasis(WEIGHTS)))
    assert not chosen(monkeypatch, ClassLoss(False, emphasis=Emphasis(top_k=0.5)))
    assert not chosen(monkeypatch, ClassLoss(False, emphasis=Emphasis(centreline=0.5)))
    assert not chosen(monkeypatch, ClassLoss(False, possible={4: (0, 1)}, classes=3))
    assert not chosen(monkeypatch, RegionLoss([(1,), (1, 2), (2,)], 4, False))


def test_cpus_keep_to_voxels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summed_loss, "prefers_fused", lambda *arguments: True)
    assert not summed_loss.prefers_sums(grids(), (), torch.sum, torch.sum)  # type: ignore[arg-type]


def test_the_kernel_takes_no_type_and_size_that_it_does_not_know() -> None:
    logits, labels = torch.empty(1, 3, 2, 2, 2), torch.zeros(1, 2, 2, 2, dtype=torch.int16)
    assert class_sums.suits(logits, labels) and class_sums.suits(logits.half(), labels.long())
    assert not class_sums.suits(logits.double(), labels)
    assert not class_sums.suits(torch.empty(1, 1025, 1, 1, 1), labels)
    assert not class_sums.suits(torch.empty(1, 2, 1024, 1024, 1024, device="meta"), labels)
