"""Where numbers must stay exact while a network runs in half precision."""

from contextlib import AbstractContextManager, nullcontext

import torch


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Inside, autocast does nothing. The device `meta`, on which nothing is computed, knows no autocast."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)
