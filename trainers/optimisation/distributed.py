"""Train one network with several processes, each on its part of every batch.

torchrun starts the processes (`se_train --num-gpus` calls it). With a single process these functions have no effect.
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
    """Return the number of processes."""
    return distributed.get_world_size() if _are_several() else 1


def rank() -> int:
    """Return the rank of this process, from 0. The first process writes files and logs."""
    return distributed.get_rank() if _are_several() else 0


def share_of(batch_size: int) -> range:
    """Return the positions of a batch that this process computes.

    Raises:
        InputError: the batch cannot be divided evenly.
    """
    if batch_size % processes():
        problem = f"{batch_size} patches cannot be divided evenly among {processes()} processes"
        raise InputError(Fault("batch size", problem, f"Use --batch-size {_next_multiple(batch_size)}"))
    size = batch_size // processes()
    return range(rank() * size, (rank() + 1) * size)


def summed(values: Tensor) -> Tensor:
    """Return the sum over the processes; gradients flow back to each of them."""
    return all_reduce(values) if _are_several() else values


def add_up(values: Tensor) -> Tensor:
    """Sum over the processes in place, without gradients."""
    if _are_several():
        distributed.all_reduce(values)
    return values


def mean_of(value: Tensor) -> Tensor:
    """Return the mean of a number over the processes, without gradients."""
    return add_up(value.detach().clone()) / processes()


def any_has(flag: bool, device: torch.device) -> bool:
    """Return whether the flag is set in any process, so that all take the same decision."""
    return bool(add_up(torch.tensor(int(flag), device=device)) > 0) if _are_several() else flag


def gathered(item: T) -> list[T]:
    """Return the items of all processes, ordered by rank."""
    if not _are_several():
        return [item]
    items: list[Any] = [None] * processes()
    distributed.all_gather_object(items, item)
    return items


def wait_for_all() -> None:
    """Wait until every process gets here."""
    if _are_several():
        distributed.barrier()


def share_gradients(network: nn.Module, device: torch.device) -> nn.Module:
    """Return the network with gradients averaged over the processes."""
    if not _are_several():
        return network
    devices: Sequence[torch.device] | None = [device] if device.type == "cuda" else None
    # The coarsest decoder stage has weight 0 in the loss, so its head has no gradient.
    # Buffers are constants of the layers.
    return DistributedDataParallel(network, device_ids=devices, find_unused_parameters=True, broadcast_buffers=False)


def _are_several() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def _next_multiple(batch_size: int) -> int:
    return -(-batch_size // processes()) * processes()
