"""A training step: forward and backward passes over one or several parts of the batch, then the optimiser's step."""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from inference.device import DeviceMemoryError, is_out_of_memory, reason_of
from trainers.optimisation.distributed import mean_of
from trainers.optimisation.precision import Precision


@dataclass(frozen=True)
class TrainingStep:
    """Updates the network with one batch."""

    network: nn.Module  # network on its device, possibly compiled or distributed
    loss: nn.Module  # loss of the network's scores and the labels
    optimiser: Optimizer  # optimiser of the network's parameters
    precision: Precision  # precision of the computation
    clip_norm: float  # maximum norm of the gradients
    parts: int = 1  # number of parts in which a batch is computed
    average: AveragedModel | None = None  # weight average to update, or None

    def __call__(self, images: Tensor, labels: Tensor) -> float:
        """Take a step on images (B, C, Z, Y, X) float32 and class indices (B, Z, Y, X).

        Returns:
            The loss, or NaN if the step was skipped because the loss or a gradient was not finite.
        """
        self.network.train()
        self.optimiser.zero_grad(set_to_none=True)
        loss = mean_of(self.backward(images, labels))
        norm = self.precision.clip(self.network, self.optimiser, self.clip_norm)
        value, length = torch.stack([loss, norm.to(loss)]).tolist()  # the only wait for the device
        are_finite = math.isfinite(value) and math.isfinite(length)
        is_well = self.precision.update(self.optimiser, are_finite)
        if are_finite and self.average is not None:
            self.average.update_parameters(_undistributed(self.network))
        if not are_finite:
            self.optimiser.zero_grad(set_to_none=True)
        return float(value) if is_well and math.isfinite(value) else math.nan

    def backward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Add the gradients of all parts to those of the parameters, and return the loss."""
        chunks = list(zip(images.chunk(self.parts), labels.chunk(self.parts), strict=True))
        total = torch.zeros((), device=images.device)
        for index, (image, label) in enumerate(chunks):
            is_last = index == len(chunks) - 1
            share = len(image) / len(images)
            with nullcontext() if is_last else self._without_sharing():
                with self.precision.context():
                    scores = self.network(image)
                loss = self.loss(scores, label)
                self.precision.backward(loss * share)
            total += loss.detach() * share
        return total

    @contextmanager
    def _without_sharing(self) -> Iterator[None]:
        """Postpone averaging gradients over the processes, which happens once, with the last part."""
        if isinstance(self.network, DistributedDataParallel):
            with self.network.no_sync():
                yield
        else:
            yield


@contextmanager
def explained_memory() -> Iterator[None]:
    """Raise `DeviceMemoryError` with a remedy if the device has too little memory for a training."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceMemoryError(
            f"there is too little memory for a training step ({reason_of(error)}). Use --set accumulate=2 (the same step in two "
            "parts), checkpointing=true (slower, needs less memory) or a smaller --batch-size, or plan again with a smaller "
            "--gpu-memory. Other programs also take memory"
        ) from error


def _undistributed(network: nn.Module) -> nn.Module:
    """Return the network without its distributed wrapper."""
    return network.module if isinstance(network, DistributedDataParallel) else network
