"""Mixed precision where the device supports it: bfloat16 on recent GPUs, float16 with loss scaling on older ones."""

from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

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

    def update(self, network: nn.Module, optimiser: Optimizer, clip_norm: float) -> bool:
        """Clip the gradient norm and take the optimiser's step, which is skipped if gradients are not finite.

        Returns:
            Whether the gradients were finite. Always True with float16, where the scaler then skips the step and lowers the loss scale.
        """
        self._scaler.unscale_(optimiser)
        norm = nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
        if self._scaler.is_enabled():
            self._scaler.step(optimiser)
            self._scaler.update()
            return True
        finite = bool(norm.isfinite())
        if finite:
            optimiser.step()
        return finite

    def state(self) -> dict[str, Any]:
        """Return the state of the loss scale."""
        return self._scaler.state_dict()

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore the loss scale; a state from another kind of device is ignored."""
        if state and self._scaler.is_enabled():
            self._scaler.load_state_dict(state)


def _number_type(device: torch.device, kind: Kind) -> torch.dtype | None:
    """Return the half-precision type; None for float32. CPUs use it only on request, since most are slower with it."""
    if kind == "off" or (kind == "auto" and device.type != "cuda"):
        return None
    if kind == "auto":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if kind == "bf16" else torch.float16
