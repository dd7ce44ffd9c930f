"""Mixed precision where the device supports it: bfloat16 on recent GPUs, float16 with loss scaling on older ones."""

from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from inference.device import has_bfloat16

Kind = Literal["auto", "bf16", "fp16", "off"]


class Precision:
    """Numerical precision of the training steps.

    Args:
        device: device of the network.
        kind: precision, see `TrainingConfig.mixed_precision`.
    """

    def __init__(self, device: torch.device, kind: Kind = "auto"):
        self._device = device
        self._type = _number_type(device, kind)
        self._scaler = torch.amp.GradScaler(device.type, enabled=self._type == torch.float16)

    def context(self) -> AbstractContextManager[Any]:
        """Return the context for forward passes."""
        return torch.autocast(self._device.type, self._type, enabled=self._type is not None)

    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradients to the existing ones."""
        self._scaler.scale(loss).backward()

    def clip(self, network: nn.Module, optimiser: Optimizer, clip_norm: float) -> Tensor:
        """Remove the loss scale from the gradients and clip their norm. Returns the norm before, which may not be finite."""
        self._scaler.unscale_(optimiser)
        return nn.utils.clip_grad_norm_(network.parameters(), clip_norm)

    def update(self, optimiser: Optimizer, are_finite: bool) -> bool:
        """Take the optimiser's step, which is skipped if loss or gradients are not finite.

        Returns:
            Whether all is well. In float16 the loss scale is lowered after a skipped step; this is normal until the scale is below 1,
            where gradients overflow that are not scaled up at all.
        """
        if are_finite:
            self._scaler.step(optimiser)
        self._scaler.update()
        return are_finite or (self._scaler.is_enabled() and self._scaler.get_scale() >= 1)

    def state(self) -> dict[str, Any]:
        """Return the state of the loss scale."""
        return self._scaler.state_dict()

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore the loss scale; a state from another kind of device is ignored."""
        if state and self._scaler.is_enabled():
            self._scaler.load_state_dict(state)


def _number_type(device: torch.device, kind: Kind) -> torch.dtype | None:
    """Return the half-precision type; None for float32. CPUs use it only on request, since most are slower with it."""
    if kind == "auto":
        kind = "off" if device.type != "cuda" else "bf16" if has_bfloat16(device) else "fp16"
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "off": None}[kind]
