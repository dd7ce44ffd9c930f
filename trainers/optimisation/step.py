"""One step: forward and backward in one or several parts of the batch, then the optimiser, unless something is not finite."""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from trainers.optimisation.distributed import mean_of
from trainers.optimisation.precision import Precision


class DeviceMemoryError(RuntimeError):
    """The device has too little memory for a step."""


class TrainingStep:
    """What a step does to the network.

    Args:
        network: on its device; compiled or shared among processes, as it may be.
        loss: of the network's scores and the labels.
        optimiser: of its parameters.
        precision: of the computation.
        clip_norm: largest norm of the gradients.
        parts: in which a batch is computed.
        average: of the weights, or None.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module,
        optimiser: Optimizer,
        precision: Precision,
        clip_norm: float,
        parts: int = 1,
        average: AveragedModel | None = None,
    ):
        self._network = network
        self._loss = loss
        self._optimiser = optimiser
        self._precision = precision
        self._clip_norm = clip_norm
        self._parts = parts
        self._average = average

    def __call__(self, images: Tensor, labels: Tensor) -> float:
        """Take a step.

        Args:
            images: (B, C, Z, Y, X).
            labels: (B, Z, Y, X) class indices.

        Returns:
            The loss; NaN where the loss or its gradients were not finite, and the step was left out.

        Raises:
            DeviceMemoryError: the device has too little memory.
        """
        self._network.train()
        self._optimiser.zero_grad(set_to_none=True)
        with explained_memory():
            value = mean_of(self._backward(images, labels))
        if math.isfinite(value) and self._precision.update(self._network, self._optimiser, self._clip_norm):
            if self._average is not None:
                self._average.update_parameters(_bare(self._network))
            return value
        self._optimiser.zero_grad(set_to_none=True)
        return math.nan

    def _backward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Add up the gradients of all parts. Returns the loss."""
        chunks = list(zip(images.chunk(self._parts), labels.chunk(self._parts), strict=True))
        total = torch.zeros((), device=images.device)
        for index, (image, label) in enumerate(chunks):
            is_last = index == len(chunks) - 1
            share = len(image) / len(images)
            with nullcontext() if is_last else self._apart():
                with self._precision.context():
                    scores = self._network(image)
                loss = self._loss(scores, label)
                self._precision.backward(loss * share)
            total += loss.detach() * share
        return total

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """Gradients are shared among processes once, with the last part."""
        if isinstance(self._network, DistributedDataParallel):
            with self._network.no_sync():
                yield
        else:
            yield


@contextmanager
def explained_memory() -> Iterator[None]:
    """Tell what to change where the device has too little memory."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError(
            f"the GPU has too little memory for this step ({str(error).splitlines()[0]}). Give --set accumulate=2 (the same step in "
            "two parts) or checkpointing=true (slower, needs less), a smaller --batch-size, or plan anew with a smaller "
            "--gpu-memory. Other programs on this GPU count too"
        ) from error


def _bare(network: nn.Module) -> nn.Module:
    """The network itself, without what distributes it."""
    return network.module if isinstance(network, DistributedDataParallel) else network
