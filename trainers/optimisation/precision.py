"""Mixed precision where the device has it: bfloat16 where CUDA computes with it, float16 with a scaled loss on older GPUs."""

from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Kind = Literal["auto", "bf16", "fp16", "off"]


class Precision:
    """How a step is computed.

    Args:
        device: of the network.
        kind: see `TrainingConfig.mixed_precision`.
    """

    def __init__(self, device: torch.device, kind: Kind = "auto"):
        self._device = device
        self._type = _number_type(device, kind)
        self._scaler = torch.amp.GradScaler(device.type, enabled=self._type == torch.float16)

    def context(self) -> AbstractContextManager[Any]:
        """Forward passes belong in here."""
        return torch.autocast(self._device.type, self._type, enabled=self._type is not None)

    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradients to those that are there."""
        self._scaler.scale(loss).backward()

    def update(self, network: nn.Module, optimiser: Optimizer, clip_norm: float) -> bool:
        """Clip the gradients' norm and take the optimiser's step, which is left out where the gradients are not finite.

        Returns:
            Whether the gradients were finite. With float16 the scale of the loss is then lowered, which is no fault.
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
        """State of the loss scale."""
        return self._scaler.state_dict()

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up a state; that of another kind of device is left."""
        if state and self._scaler.is_enabled():
            self._scaler.load_state_dict(state)


def _number_type(device: torch.device, kind: Kind) -> torch.dtype | None:
    """Half precision type; None computes in float32. CPUs get it on request alone: without special units it is slower there."""
    if kind == "off" or (kind == "auto" and device.type != "cuda"):
        return None
    if kind == "auto":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if kind == "bf16" else torch.float16
