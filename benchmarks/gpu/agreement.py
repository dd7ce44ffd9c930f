"""Real kernels against the CPU: scores, gradients and labels."""

import torch
from torch import Tensor, nn

from benchmarks.gpu.setting import DESCRIPTION, FAMILIES, Result, Setting
from inference.device import in_precision
from inference.engine.capacity import Capacity, within
from inference.engine.ensemble import Blending, Member, blend
from inference.engine.scaling import ScaledImage
from trainers.optimisation.loss import make_loss

PRECISIONS: dict[str, tuple[torch.dtype | None, float]] = {
    "float32": (None, 1e-3),
    "fp16": (torch.float16, 0.02),
    "bf16": (torch.bfloat16, 0.1),
}
STEP_TILES = 0.5


def scores_and_gradients(setting: Setting) -> Result:
    """Compare a training step with the CPU's, in float32 without TF32 and in half precision."""
    result = Result()
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        for family in FAMILIES:
            network = setting.network(family)
            expected, gradient = _step(network, setting, torch.device("cpu"), None)
            for name, (dtype, limit) in PRECISIONS.items():
                scores, found = _step(setting.network(family), setting, setting.device, dtype)
                result.check(f"{family}, {name}: scores", _distance(scores, expected), limit)
                result.check(f"{family}, {name}: gradients", _distance(found, gradient), 3 * limit)
    finally:
        torch.backends.cudnn.allow_tf32 = before
    return result


def labels(setting: Setting) -> Result:
    """Compare the labels of a volume larger than a patch, by the sliding window."""
    result, edge = Result(), setting.edge
    image = torch.randn((1, edge, edge + edge // 2, edge + edge // 2), generator=torch.Generator().manual_seed(2))
    for family in FAMILIES:
        here, there = (segment(setting.network(family), image, edge, device) for device in (torch.device("cpu"), setting.device))
        result.check(f"{family}: share of voxels with other labels", float((here != there).float().mean()), 0.005)
    return result


def segment(network: nn.Module, image: Tensor, edge: int, device: torch.device, capacity: Capacity | None = None) -> Tensor:
    """Return class indices (Z, Y, X) on the CPU of an image (C, Z, Y, X) on the CPU."""
    network = network.to(device).eval()
    shape = (image.shape[1], image.shape[2], image.shape[3])

    def attempt(own: Capacity) -> Tensor:
        volume = ScaledImage(image.to(own.volumes_device), shape)
        member = Member(network, volume, (edge,) * 3, (), (None, None, None))
        classes = torch.empty(shape, dtype=torch.int64)
        for brick in blend([member], shape, DESCRIPTION.output_channels, Blending(step=STEP_TILES), own):
            classes[brick.place] = brick.probabilities.argmax(0).cpu()
        return classes

    return within(capacity or Capacity.of(device), attempt, "the image")


def _step(network: nn.Module, setting: Setting, device: torch.device, dtype: torch.dtype | None) -> tuple[Tensor, Tensor]:
    """Return the finest scores and all gradients in one vector, on the CPU."""
    network, loss = network.to(device).train(), make_loss(DESCRIPTION, False).to(device)
    with in_precision(device, dtype):
        scores = network(setting.patches().to(device))
    loss(scores, setting.labels().to(device)).backward()
    gradients = [one.grad.flatten() for one in network.parameters() if one.grad is not None]
    return scores[0].detach().float().cpu(), torch.cat([one.float().cpu() for one in gradients])


def _distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())
