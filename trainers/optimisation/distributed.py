"""Several processes that train one network, each on its part of every batch.

They are started by torchrun (`se_train --num-gpus` does it); without it there is one process, and nothing here does anything.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.parallel import DistributedDataParallel

from configs.errors import Fault, InputError

T = TypeVar("T")


def processes() -> int:
    """How many there are."""
    return distributed.get_world_size() if _are_several() else 1


def rank() -> int:
    """Which of them this is, from 0. The first writes files and speaks."""
    return distributed.get_rank() if _are_several() else 0


def share_of(batch_size: int) -> range:
    """Positions of a batch that this process computes.

    Raises:
        InputError: the batch cannot be shared evenly.
    """
    if batch_size % processes():
        problem = f"{batch_size} patches cannot be shared evenly by {processes()} processes"
        raise InputError(Fault("batch size", problem, f"Give --batch-size {_next_multiple(batch_size)}"))
    size = batch_size // processes()
    return range(rank() * size, (rank() + 1) * size)


def summed(values: Tensor) -> Tensor:
    """Sum over the processes, through which gradients flow back to each of them."""
    return all_reduce(values) if _are_several() else values


def add_up(values: Tensor) -> Tensor:
    """Sum over the processes, in place, without gradients."""
    if _are_several():
        distributed.all_reduce(values)
    return values


def mean_of(value: Tensor) -> float:
    """Mean of a number over the processes."""
    return float(add_up(value.detach().clone())) / processes()


def any_has(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set in any process, so that all decide alike."""
    return bool(add_up(torch.tensor(int(flag), device=device)) > 0) if _are_several() else flag


def gathered(item: T) -> list[T]:
    """What each process has, in the order of their ranks."""
    if not _are_several():
        return [item]
    items: list[Any] = [None] * processes()
    distributed.all_gather_object(items, item)
    return items


def wait_for_all() -> None:
    """Go on when every process is here."""
    if _are_several():
        distributed.barrier()


def share_gradients(network: nn.Module, device: torch.device) -> nn.Module:
    """The network with gradients that are the means over the processes."""
    if not _are_several():
        return network
    devices: Sequence[torch.device] | None = [device] if device.type == "cuda" else None
    # The coarsest decoder stage has the weight 0 in the loss, so its head has no gradient.
    return DistributedDataParallel(network, device_ids=devices, find_unused_parameters=True)


def _are_several() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def _next_multiple(batch_size: int) -> int:
    return -(-batch_size // processes()) * processes()
