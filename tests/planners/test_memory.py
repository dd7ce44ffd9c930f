"""The counted memory of a training step is what PyTorch's CPU allocator really hands out, within 15 %."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from configs.dataset import DatasetDescription
from configs.network import NetworkConfig, ScaleGroup
from planners.rules.memory import peak_bytes, training_bytes
from planners.rules.networks.se_network import se_network
from planners.rules.networks.skeleton import SIZES, Size, baseline_network, choose_skeleton
from planners.rules.topology import choose_topology
from se_unet.builder import build_network
from trainers.optimisation.loss import make_loss

DESCRIPTION = DatasetDescription(name="toy", channels=("MR",), labels={"background": 0, "a": 1, "b": 2})
BATCH = 2
TOLERANCE = 0.15


def described(family: str, size: Size, edge: int) -> NetworkConfig:
    topology, skeleton = choose_topology((1, 1, 1), (edge,) * 3), choose_skeleton(size, slices=False)
    if family == "baseline":
        return baseline_network(DESCRIPTION, (1, 1, 1), topology, skeleton)
    return se_network(DESCRIPTION, (1, 1, 1), topology, skeleton, ScaleGroup(smallest_sigma=0.9, number=3))


def allocated(action: Callable[[], object]) -> int:
    """Most bytes that the allocator has handed out at once beyond what was there before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        action()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def held(network: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in [*network.parameters(), *network.buffers()])


def true_training_bytes(config: NetworkConfig, edge: int) -> int:
    network, loss = build_network(config).train(), make_loss(DESCRIPTION, batch_dice=False)
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.99, nesterov=True)
    image, labels = torch.randn(BATCH, 1, edge, edge, edge), torch.randint(0, 3, (BATCH, edge, edge, edge))

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        loss(network(image), labels).backward()
        optimiser.step()

    step()  # from here on the optimiser has its state
    optimiser.zero_grad(set_to_none=True)
    states = sum(value.nbytes for state in optimiser.state.values() for value in state.values() if torch.is_tensor(value))
    return allocated(step) + held(network) + states + image.nbytes + labels.nbytes


@pytest.mark.parametrize("family", ["baseline", "se"])
def test_small_networks(family: str, one_thread: None) -> None:
    config = described(family, "small", 16)
    assert training_bytes(config, (16,) * 3, BATCH) == pytest.approx(true_training_bytes(config, 16), rel=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("size", [pytest.param(size, marks=pytest.mark.thorough) if size == "large" else size for size in SIZES])
@pytest.mark.parametrize("family", ["baseline", "se"])
def test_all_sizes(family: str, size: Size, one_thread: None) -> None:
    config = described(family, size, 32)
    assert training_bytes(config, (32,) * 3, BATCH) == pytest.approx(true_training_bytes(config, 32), rel=TOLERANCE)


def test_a_chain_of_operators_holds_what_it_needs() -> None:
    x = torch.empty(1000, device="meta")

    def chain() -> None:
        y = x + 1
        for _ in range(5):
            y = y * 2  # two at a time

    assert peak_bytes(chain, [x, x.view(10, 100)]) == 3 * 4000
    assert peak_bytes(chain) == 2 * 4000


def test_checkpointing_and_smaller_batches_hold_less() -> None:
    config = described("se", "small", 32)
    whole = training_bytes(config, (32,) * 3, 2)
    assert training_bytes(config, (32,) * 3, 1) < 0.6 * whole
    assert training_bytes(config.model_copy(update={"checkpointing": True}), (32,) * 3, 2) < 0.7 * whole
    assert training_bytes(config, (32,) * 3, 2, optimiser_states=2) == whole + held(build_network(config).train()) - sum(
        buffer.numel() * buffer.element_size() for buffer in build_network(config).buffers()
    )


@pytest.fixture
def one_thread() -> Iterator[None]:
    """A CPU convolves small single images by columns only on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
