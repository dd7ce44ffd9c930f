"""What `torch.cuda` and its relatives answer on the stand-in. For a process that does nothing else."""

from typing import Any

import torch

from tests.gpu.standin.device import GPUTensor
from tests.gpu.standin.ledger import LEDGER


def install(*, bf16: bool = True) -> None:
    """Let PyTorch report one CUDA device from now on, with bfloat16 or without it as on GPUs before Ampere."""
    answers: dict[str, Any] = {
        "_lazy_init": lambda: None,
        "_is_in_bad_fork": lambda: False,
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "get_device_name": lambda device=None: "stand-in",
        "get_device_capability": lambda device=None: (9, 0) if bf16 else (7, 0),
        "is_bf16_supported": lambda including_emulation=True: bf16,
        "synchronize": lambda device=None: LEDGER.wait("synchronize"),
        "empty_cache": lambda: None,
        "mem_get_info": lambda device=None: (2**40 - LEDGER.memory.now, 2**40),
        "memory_allocated": lambda device=None: LEDGER.memory.now,
        "max_memory_allocated": lambda device=None: LEDGER.memory.peak,
        "reset_peak_memory_stats": lambda device=None: setattr(LEDGER.memory, "peak", LEDGER.memory.now),
        "get_rng_state_all": list,
        "set_rng_state_all": lambda states: None,
        "get_rng_state": lambda device=None: torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": lambda state, device=None: None,
        "manual_seed": lambda seed: None,
        "manual_seed_all": lambda seed: None,
    }
    for name, answer in answers.items():
        setattr(torch.cuda, name, answer)
    torch.cuda.amp.common.amp_definitely_not_available = lambda: False
    torch.Tensor.pin_memory = _pinned  # type: ignore[method-assign]
    torch.Generator = _Generator  # type: ignore[misc]
    torch.__future__.set_overwrite_module_params_on_conversion(True)


def _pinned(tensor: torch.Tensor, *device: Any) -> torch.Tensor:
    if isinstance(tensor, GPUTensor):
        raise RuntimeError("cannot pin a tensor of the device: only dense CPU tensors can be pinned")
    return tensor


class _Generator(torch.Generator):
    """Random numbers of the stand-in are those of the CPU."""

    def __new__(cls, device: Any = "cpu") -> torch.Generator:  # type: ignore[misc]
        return super().__new__(torch.Generator, "cpu") if cls is _Generator else super().__new__(cls, "cpu")
