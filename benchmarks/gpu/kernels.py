"""The project's own Triton kernels against PyTorch's operators on the same device: results, gradients, labels, and the time of each."""

import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import TypeVar

import torch
from torch import Tensor, nn

from benchmarks.common.rounds import time_in_turn
from benchmarks.gpu.agreement import PRECISIONS, segment
from benchmarks.gpu.setting import DESCRIPTION, Result, Setting, SkippedError
from inference.device import in_precision
from se_unet.layers.convolution import GroupConvolution
from se_unet.layers.engines import blurred
from se_unet.layers.fused.choice import TOLERANCE, VARIABLE
from se_unet.layers.instance_norm import InstanceNorm
from se_unet.layers.pointwise import ScaleMixing
from se_unet.layers.sampling import InterpolateUp, LowPassDown
from trainers.optimisation.loss import make_loss

ROUNDS = 5
SIGMA, SCALES = 0.9, 3  # width of the blur in voxels, scales of the maps that are mixed
Action = Callable[[], Sequence[Tensor]]
T = TypeVar("T")


def kernels(setting: Setting) -> Result:
    """Compare every kernel, alone at a fine and at a coarse stage and in a whole training step, with what takes its place."""
    if setting.device.type != "cuda" or not setting.is_real:
        raise SkippedError("not applicable: only a real GPU runs these kernels; the tests run them in Triton's interpreter")
    if find_spec("triton") is None:
        raise SkippedError("not applicable: Triton is not installed, so that PyTorch's operators do all the work")
    result = Result()
    for edge, channels in ((setting.edge, 32), (setting.edge // 4, 128)):
        for name, dtype, action in pieces(setting.device, edge, channels):
            compare(result, name, action, TOLERANCE[dtype], setting)
    for name, (half, limit) in PRECISIONS.items():
        compare(result, f"training step of se, {name}", _step(setting, half), 3 * limit, setting)
    image = torch.randn((1, setting.edge, *(setting.edge * 3 // 2,) * 2), generator=torch.Generator().manual_seed(2))

    def labels() -> Tensor:
        return segment(setting.network("se"), image, setting.edge, setting.device)

    ones, others = _under("fused", labels), _under("plain", labels)
    result.check("se: share of voxels with other labels", float((ones != others).float().mean()), 0.005)
    return result


def compare(result: Result, name: str, action: Action, limit: float, setting: Setting) -> None:
    """Note the largest difference between the tensors of an action with and without the kernels, and the time that it takes with either.

    A difference counts as a share of the largest value of its tensor.
    """
    found, expected = _under("fused", action), _under("plain", action)
    errors = [float((one - other).abs().max() / other.abs().max()) for one, other in zip(found, expected, strict=True)]
    del found, expected  # maps are large
    result.check(f"{name}: difference", float(torch.tensor(errors).max()), limit)  # which keeps a NaN, as `max` does not
    turns = {kind: partial(_under, kind, action) for kind in ("fused", "plain")}
    times = {kind: 1e3 * statistics.median(one) for kind, one in time_in_turn(turns, ROUNDS, setting.device).items()}
    result.figures.append({"piece": name, "fused_ms": times["fused"], "plain_ms": times["plain"]})


def pieces(device: torch.device, edge: int, channels: int) -> Iterator[tuple[str, torch.dtype, Action]]:
    """Yield the work of each kernel on maps of edge^3 voxels in each precision: its name, the type of its maps, and the action.

    Actions return results and gradients as float32.
    """
    layers = {
        "blur": (_Blur(channels), 1),
        "low-pass": (LowPassDown((1.4,), (2, 2, 2)), 1),
        "interpolation": (InterpolateUp((2, 2, 2)), 1),
        "norm": (InstanceNorm(channels, slope=0.01), 1),
        "mixing": (_random_mixing(channels), SCALES),
    }
    for dtype in TOLERANCE:
        about = f"{edge}^3 x {channels}, {str(dtype).removeprefix('torch.')}"
        for name, (layer, scales) in layers.items():
            x = _random((1, scales, edge, edge, edge, channels)).movedim(-1, 1).to(device, dtype)
            yield f"{name}, {about}", dtype, _passes(layer.to(device), x)
        yield f"loss, {edge}^3, {str(dtype).removeprefix('torch.')}", dtype, _loss(device, edge, dtype)


class _Blur(nn.Module):
    """The blur of a group convolution, without the convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.functions = GroupConvolution(channels, channels, [(SIGMA,) * 3]).functions

    def forward(self, x: Tensor) -> Tensor:
        """Blur a map (B, C, 1, Z, Y, X) -> (B, C, Z + 2, Y + 2, X + 2)."""
        return blurred(x[:, :, 0], self.functions.blurs(), (1, 1, 1), "replicate")


def _random_mixing(channels: int) -> ScaleMixing:
    """Return a mixing of scales whose weights are not the zeros with which it begins."""
    mixing = ScaleMixing(channels, 1)
    nn.init.normal_(mixing.weight, generator=torch.Generator().manual_seed(0))
    return mixing


def _passes(layer: nn.Module, x: Tensor) -> Action:
    """Return an action that computes a layer's result, and the gradients of its input and parameters for that of half the square."""

    def act() -> list[Tensor]:
        given = x.detach().requires_grad_()
        y = layer(given)
        return [one.float() for one in (y.detach(), *torch.autograd.grad(y, [given, *layer.parameters()], y.detach()))]

    return act


def _loss(device: torch.device, edge: int, dtype: torch.dtype) -> Action:
    """Return an action that computes the loss of three stages, and the gradients of those that count."""
    loss = make_loss(DESCRIPTION, False).to(device)
    labels = (_random((2, edge, edge, edge)) > 0).to(device, torch.int16)
    stages = [
        _random((2, size, size, size, DESCRIPTION.output_channels)).movedim(-1, 1).to(device, dtype)
        for size in (edge, edge // 2, edge // 4)
    ]

    def act() -> list[Tensor]:
        fine, *coarse = (stage.detach().requires_grad_() for stage in stages)
        value = loss([fine, *coarse], labels)
        return [one.float() for one in (value.detach(), *torch.autograd.grad(value, [fine, coarse[0]]))]

    return act


def _step(setting: Setting, half: torch.dtype | None) -> Action:
    """Return an action that computes the finest scores, the loss, and all gradients in one vector."""
    network, loss = setting.network("se").to(setting.device).train(), make_loss(DESCRIPTION, False).to(setting.device)
    images, labels = setting.patches().to(setting.device), setting.labels().to(setting.device)

    def act() -> list[Tensor]:
        network.zero_grad(set_to_none=True)
        with in_precision(setting.device, half):
            scores = network(images)
        value = loss(scores, labels)
        value.backward()
        gradients = [one.grad.flatten() for one in network.parameters() if one.grad is not None]
        return [scores[0].detach().float(), value.detach(), torch.cat(gradients)]

    return act


def _random(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)) + 0.5


def _under(kind: str, action: Callable[[], T]) -> T:
    with _asking_for(kind):
        return action()


@contextmanager
def _asking_for(kind: str) -> Iterator[None]:
    """Ask for `fused` or `plain` kernels for a while."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = kind
    try:
        yield
    finally:
        del os.environ[VARIABLE]
        if before is not None:
            os.environ[VARIABLE] = before
