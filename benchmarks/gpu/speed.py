"""Times of training steps and tiles in turn, with the share of what the device was measured to do."""

import statistics
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.common.rounds import matrix_rate, memory_rate, time_in_turn
from benchmarks.gpu.setting import DESCRIPTION, FAMILIES, Result, Setting
from inference.device import in_precision
from se_unet.cost import multiply_adds
from trainers.optimisation.compilation import compiled
from trainers.optimisation.loss import make_loss
from trainers.optimisation.precision import Precision

ROUNDS = 10
TILES = 4


def steps(setting: Setting) -> Result:
    """Time a training step in bf16, float32 and fp16, compiled and not, and of nnU-Net's own network where it is installed."""
    result = Result()
    measured = setting.device if setting.is_real else torch.device("cpu")  # the tests' stand-in would take minutes
    rate = matrix_rate(measured, torch.bfloat16)
    result.figures.append({"measured": "matrix product, TFLOP/s", "value": 2e-12 * rate})
    result.figures.append({"measured": "memory, GB/s", "value": 1e-9 * memory_rate(measured)})
    for kind in ("bf16", "off", "fp16") if setting.is_real else ("bf16", "off"):
        actions: dict[str, Callable[[], object]] = {}
        work: dict[str, int] = {}
        for family in FAMILIES:
            network = setting.network(family).to(setting.device).train()
            work[family] = 3 * multiply_adds(network, setting.patches().shape)
            actions[family] = _step(network, setting, kind)
            if setting.is_real and kind == "bf16":
                precision = Precision(setting.device, kind)
                fast = compiled(setting.network(family).to(setting.device), setting.patches().to(setting.device), precision)
                actions[f"{family}, compiled"] = _step(fast, setting, kind)
        peer = _nnunet(setting)
        if peer is not None:
            actions["nnU-Net's network"] = _step(peer.to(setting.device).train(), setting, kind)
        for name, seconds in time_in_turn(actions, ROUNDS if setting.is_real else 1, setting.device).items():
            row: dict[str, Any] = {"step": name, "precision": kind, "milliseconds": 1e3 * statistics.median(seconds)}
            if name.split(",")[0] in work:
                row["share_of_matrix_rate"] = work[name.split(",")[0]] / statistics.median(seconds) / rate
            result.figures.append(row)
    return result


def tiles(setting: Setting) -> Result:
    """Time a batch of tiles of each network in fp16 and float32."""
    result = Result()
    image = setting.patches(TILES).to(setting.device)
    for name, dtype in (("fp16", torch.float16), ("float32", None)):
        actions = {family: _tiles(setting.network(family).to(setting.device).eval(), image, dtype) for family in FAMILIES}
        for family, seconds in time_in_turn(actions, ROUNDS if setting.is_real else 1, setting.device).items():
            result.figures.append({"tiles": family, "precision": name, "milliseconds": 1e3 * statistics.median(seconds)})
    return result


def _step(network: nn.Module, setting: Setting, kind: str) -> Callable[[], object]:
    images, labels = setting.patches().to(setting.device), setting.labels().to(setting.device)
    loss, precision = make_loss(DESCRIPTION, False).to(setting.device), Precision(setting.device, kind)  # type: ignore[arg-type]
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.99, nesterov=True)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with precision.context():
            scores = network(images)
        precision.backward(loss(scores, labels))
        norm = precision.clip(network, optimiser, 12.0)
        precision.update(optimiser, bool(norm.isfinite()))

    return step


def _tiles(network: nn.Module, image: Tensor, dtype: torch.dtype | None) -> Callable[[], object]:
    def predict() -> None:
        with torch.no_grad(), in_precision(image.device, dtype):
            network(image)

    return predict


def _nnunet(setting: Setting) -> nn.Module | None:
    """Return nnU-Net's network of the same plan, or None where its package is missing."""
    if find_spec("dynamic_network_architectures") is None:
        return None
    from dynamic_network_architectures.architectures.unet import PlainConvUNet  # type: ignore[import-untyped,import-not-found,unused-ignore]

    config = setting.config("baseline")
    return PlainConvUNet(
        config.input_channels, len(config.features), list(config.features), nn.Conv3d, [list(one) for one in config.kernels],
        [list(one) for one in config.strides], [2] * len(config.features), config.output_channels, [2] * (len(config.features) - 1),
        conv_bias=True, norm_op=nn.InstanceNorm3d, norm_op_kwargs={"eps": 1e-5, "affine": True}, nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True}, deep_supervision=True,
    )  # fmt: skip
