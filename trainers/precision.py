"""Mixed precision where the device has it: bfloat16 where CUDA computes with it, float16 with a scaled loss on older GPUs."""

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class Precision:
    """How a step is computed.

    Args:
        device: of the network.
        mixed: whether to use mixed precision where the device has it.
    """

    def __init__(self, device: torch.device, mixed: bool):
        self._device = device
        self._mixed = mixed and device.type == "cuda"
        half = self._mixed and not torch.cuda.is_bf16_supported(including_emulation=False)
        self._type = torch.float16 if half else torch.bfloat16
        self._scaler = torch.amp.GradScaler(device.type, enabled=half)

    def context(self) -> AbstractContextManager[Any]:
        """Forward passes belong in here."""
        return torch.autocast(self._device.type, self._type, enabled=self._mixed)

    def step(self, loss: Tensor, network: nn.Module, optimiser: Optimizer, clip_norm: float) -> bool:
        """Backward pass, clipping of the gradients' norm, and the optimiser's step, skipped where the gradients are not finite.

        Returns:
            Whether the gradients were finite. With float16 the scale of the loss is then lowered, which is no fault.
        """
        optimiser.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()
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
