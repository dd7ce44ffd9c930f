"""Time actions fairly: they take turns in one process, and are compared within each round."""

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

Action = Callable[[], object]


def time_in_turn(actions: Mapping[str, Action], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Return the seconds of each action in each round. A first round warms up and does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for index in range(rounds + 1):
        for name, action in actions.items():
            start = _now(device)
            action()
            if index:
                seconds[name].append(_now(device) - start)
    return seconds


def median_ratio(seconds: list[float], reference: list[float]) -> float:
    """Return the median over rounds of an action's time divided by the reference's time."""
    return statistics.median(one / other for one, other in zip(seconds, reference, strict=True))


def forward(module: nn.Module, x: Tensor, dtype: torch.dtype) -> Action:
    """Evaluate a module without gradients."""

    def act() -> None:
        module.eval()
        with torch.no_grad(), _precision(x.device, dtype):
            module(x)

    return act


def forward_backward(module: nn.Module, x: Tensor, dtype: torch.dtype, input_gradient: bool = False) -> Action:
    """A training step without the optimiser: the mean square of all outputs, and its gradients.

    Args:
        module: a layer or a network.
        x: its input.
        dtype: type of autocast; float32 disables it.
        input_gradient: also of the input, as a layer inside a network has to pass it on.
    """
    x = x.detach().requires_grad_(input_gradient)

    def act() -> None:
        module.train()
        module.zero_grad(set_to_none=True)
        x.grad = None
        with _precision(x.device, dtype):
            outputs = module(x)
            loss = sum(output.float().square().mean() for output in (outputs if isinstance(outputs, list) else [outputs]))
        loss.backward()

    return act


def peak_memory(action: Action, device: torch.device) -> int | None:
    """Return the peak number of bytes that an action allocates on a GPU; None on other devices."""
    if device.type != "cuda":
        return None
    action()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    action()
    return torch.cuda.max_memory_allocated(device) - before


def resident_bytes() -> tuple[int | None, int | None]:
    """Return the resident memory of this process in bytes, now and at its peak; None for both if the system is not Linux."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None, None
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("VmRSS:", "VmHWM:"))}
    return 1024 * kilobytes["VmRSS"], 1024 * kilobytes["VmHWM"]


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Measure the multiply-adds per second of a large square matrix product."""
    n = 8192 if device.type == "cuda" else 1024
    a = torch.randn(n, n, device=device, dtype=dtype)
    seconds = time_in_turn({"product": lambda: a @ a}, 10, device)["product"]
    return n**3 / statistics.median(seconds)


def memory_rate(device: torch.device) -> float:
    """Measure the bytes per second that a copy reads and writes."""
    size = 2**30 if device.type == "cuda" else 2**27
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    seconds = time_in_turn({"copy": lambda: target.copy_(source)}, 10, device)["copy"]
    return 2 * size / statistics.median(seconds)


def describe_device(device: torch.device) -> str:
    """Return the name of the device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"


def _precision(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
