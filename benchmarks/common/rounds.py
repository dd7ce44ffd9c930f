"""Fair timing: everything is run in turn, round after round in one process, and compared within the rounds."""

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

Action = Callable[[], object]


def time_in_turn(actions: Mapping[str, Action], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each action in each round, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for index in range(rounds + 1):
        for name, action in actions.items():
            start = _now(device)
            action()
            if index:
                seconds[name].append(_now(device) - start)
    return seconds


def median_ratio(seconds: list[float], reference: list[float]) -> float:
    """Median over the rounds of how many times as long it took as the reference."""
    return statistics.median(one / other for one, other in zip(seconds, reference, strict=True))


def forward(module: nn.Module, x: Tensor, dtype: torch.dtype) -> Action:
    """Evaluation without gradients."""

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
        dtype: of autocast; float32 is none.
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
    """Most bytes that the action takes on a GPU beyond what is there before; None elsewhere."""
    if device.type != "cuda":
        return None
    action()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    action()
    return torch.cuda.max_memory_allocated(device) - before


def resident_bytes() -> tuple[int | None, int | None]:
    """Bytes that this process has resident now, and had at most; None each where the system does not tell (it does on Linux)."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None, None
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("VmRSS:", "VmHWM:"))}
    return 1024 * kilobytes["VmRSS"], 1024 * kilobytes["VmHWM"]


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Multiply-adds per second of a large square matrix product, as measured here."""
    n = 8192 if device.type == "cuda" else 1024
    a = torch.randn(n, n, device=device, dtype=dtype)
    seconds = time_in_turn({"product": lambda: a @ a}, 10, device)["product"]
    return n**3 / statistics.median(seconds)


def memory_rate(device: torch.device) -> float:
    """Bytes per second read and written by a copy, as measured here."""
    size = 2**30 if device.type == "cuda" else 2**27
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    seconds = time_in_turn({"copy": lambda: target.copy_(source)}, 10, device)["copy"]
    return 2 * size / statistics.median(seconds)


def describe_device(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"


def _precision(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
