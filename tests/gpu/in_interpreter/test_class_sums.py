"""The kernels of class sums have the results of the operator on CPUs, whose gradients PyTorch confirms."""

import pytest
import torch
from torch import Tensor

from se_unet.layers.fused.class_sums import NOTHING, PARTS, _backward, _class_sums
from se_unet.layers.fused.class_sums_kernel import launch, launch_backward


def arguments(
    shape: tuple[int, ...], classes: int, dtype: torch.dtype = torch.float32, highest: int | None = None
) -> tuple[Tensor, Tensor]:
    """Rows (B, voxels, K) and class indices (B, Z, Y, X), of which every second voxel of a finer grid is taken."""
    torch.manual_seed(0)
    fine = (shape[0], *(2 * n for n in shape[1:]))
    labels = torch.randint(0, highest or classes, fine, dtype=torch.int16)[:, 1::2, 1::2, 1::2]
    return (3 * torch.randn(shape[0], labels[0].numel(), classes)).to(dtype), labels


def errors(rows: Tensor, labels: Tensor, ignored: int = NOTHING) -> tuple[float, float]:
    """Largest differences of sums and gradients, as shares of the largest values."""
    behind = torch.randn(PARTS, len(rows), 4, rows.shape[2])
    pairs = [
        (launch(rows, labels, ignored), _class_sums(rows, labels, ignored)),
        (launch_backward(behind, rows, labels, ignored), _backward(behind, rows, labels, ignored)),
    ]
    one, other = (float((found - expected).abs().max() / expected.abs().max()) for found, expected in pairs)
    return one, other


@pytest.mark.parametrize(("shape", "classes"), [((2, 3, 4, 5), 3), ((1, 8, 9, 11), 70), ((1, 1, 1, 1), 2)])
def test_it_equals_the_operator(shape: tuple[int, ...], classes: int) -> None:
    assert max(errors(*arguments(shape, classes))) < 1e-5


def test_ignored_voxels() -> None:
    rows, labels = arguments((2, 5, 6, 7), 3, highest=4)
    assert max(errors(rows, labels, ignored=3)) < 1e-5
    assert not launch_backward(torch.randn(PARTS, 2, 4, 3), rows, labels, 3)[labels.flatten(1) == 3].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    rows, labels = arguments((2, 4, 4, 4), 5, dtype)
    of_sums, of_gradients = errors(rows, labels)
    assert of_sums < 1e-5 and of_gradients < 1e-2
    assert launch_backward(torch.randn(PARTS, 2, 4, 5), rows, labels, NOTHING).dtype == dtype


def test_a_gradient_that_is_the_same_for_all_parts() -> None:
    """As that of a sum over the parts, which is no copy."""
    rows, labels = arguments((2, 3, 4, 5), 4)
    behind = torch.randn(2, 4, 4).expand(PARTS, -1, -1, -1)
    torch.testing.assert_close(launch_backward(behind, rows, labels, NOTHING), _backward(behind, rows, labels, NOTHING))


def test_large_logits_give_no_infinity() -> None:
    rows, labels = arguments((1, 2, 3, 4), 3)
    assert launch(1e4 * rows, labels, NOTHING).isfinite().all()


def test_wrong_labels_are_seen() -> None:
    """The comparison would fail for a kernel that read the labels of other voxels."""
    rows, labels = arguments((2, 3, 4, 5), 3)
    expected = _class_sums(rows, labels, NOTHING)
    assert (launch(rows, labels.flip(3), NOTHING) - expected).abs().max() > 0.1
