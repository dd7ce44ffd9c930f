"""The stand-in itself behaves as a CUDA device does."""

from collections import Counter

import pytest
import torch
from torch import nn

from tests.gpu.standin.ledger import Ledger

MIB = 2**20


def test_tensors_of_two_devices_do_not_mix(gpu: Ledger) -> None:
    there, here = torch.ones(3, device="cuda"), torch.ones(3)
    with pytest.raises(RuntimeError, match="all tensors to be on the same device"):
        there + here
    assert ((there + torch.tensor(1.0)).cpu() == 2).all()  # numbers of the host may take part
    with pytest.raises(TypeError, match=r"Tensor\.cpu"):
        there.numpy()


def test_networks_compute_there_what_they_compute_here(gpu: Ledger) -> None:
    network = nn.Sequential(nn.Conv3d(1, 4, 3), nn.GroupNorm(4, 4), nn.LeakyReLU())
    image = torch.randn(2, 1, 8, 8, 8, requires_grad=True)
    network(image).square().sum().backward()
    expected = image.grad
    there = image.detach().to("cuda").requires_grad_()
    answer = network.to("cuda")(there)
    answer.square().sum().backward()
    assert answer.device.type == "cuda" and all(one.device.type == "cuda" for one in network.parameters())
    assert torch.allclose(there.grad.cpu(), expected, atol=1e-5)


def test_autocast_is_that_of_cuda(gpu: Ledger) -> None:
    image = torch.randn(1, 4, 4, 4, 4, device="cuda")
    with torch.autocast("cuda", torch.bfloat16):
        assert nn.Conv3d(4, 4, 1).to("cuda")(image).dtype == torch.bfloat16
        assert nn.GroupNorm(4, 4).to("cuda")(image.bfloat16()).dtype == torch.float32


def test_waits_are_counted(gpu: Ledger) -> None:
    there = torch.arange(6.0, device="cuda")
    gpu.restart()
    assert gpu.number_of_waits == 0
    there.sum()
    there.to(torch.bfloat16)
    assert gpu.number_of_waits == 0
    float(there.sum())
    there.nonzero()
    there.cpu()
    torch.ones(3).to("cuda")
    torch.tensor([1.0], device="cuda")
    there[there > 1]
    reasons: Counter[str] = Counter()
    for (reason, _), times in gpu.waits.items():
        reasons[reason] += times
    assert reasons == {"_local_scalar_dense": 1, "nonzero": 1, "copy to the host": 1, "copy to the device": 2, "index": 1}
    torch.ones(3).to("cuda", non_blocking=True)
    assert gpu.number_of_waits == 6 and gpu.copies == 1


def test_launches_are_counted_without_views(gpu: Ledger) -> None:
    there = torch.ones(2, 3, device="cuda")
    gpu.restart()
    there.T[0].reshape(1, 2)
    assert gpu.launches == 0
    there.T.contiguous() + 1
    assert gpu.launches == 2


def test_memory_is_followed_and_limited(gpu: Ledger) -> None:
    before = gpu.memory.now
    kept = torch.zeros(MIB, dtype=torch.uint8, device="cuda")
    view = kept[10:]
    assert gpu.memory.now - before == MIB
    gpu.memory.limit = before + 3 * MIB
    more = kept + 1
    with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
        torch.zeros(2 * MIB, dtype=torch.uint8, device="cuda")
    del more
    torch.zeros(2 * MIB, dtype=torch.uint8, device="cuda")
    del kept, view
    assert gpu.memory.now == before and gpu.memory.peak == before + 3 * MIB


def test_one_allocation_can_fail(gpu: Ledger) -> None:
    gpu.restart()
    gpu.memory.fails = lambda number: number == 1
    torch.zeros(8, device="cuda")
    with pytest.raises(torch.OutOfMemoryError):
        torch.zeros(8, device="cuda")
    torch.zeros(8, device="cuda")
