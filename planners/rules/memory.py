"""Count the memory of a training step on the real network, without allocating it.

The step runs on PyTorch's `meta` device, where tensors have shapes but no values. Every storage is counted from its creation to its
release: weights, activations, gradients and intermediate results. The result is the peak. Memory inside operators is not visible.

The count is in float32. Mixed precision takes less, which leaves room for the workspaces of GPU libraries.
"""

import weakref
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from configs.fingerprint import Shape
from configs.network import NetworkConfig
from se_unet.builder import build_network


@lru_cache(maxsize=64)
def training_bytes(config: NetworkConfig, patch_size: Shape, batch_size: int, optimiser_states: int = 1) -> int:
    """Return the peak memory in bytes of a training step: forward pass, loss, backward pass.

    Args:
        config: description of the network.
        patch_size: voxels (Z, Y, X) of a patch.
        batch_size: number of patches.
        optimiser_states: number of tensors that the optimiser keeps for each weight: 1 for SGD with momentum, 2 for AdamW.
    """
    network = build_network(config).to("meta").train()
    image = torch.empty(batch_size, config.input_channels, *patch_size, device="meta")
    labels = torch.empty(batch_size, *patch_size, dtype=torch.long, device="meta")
    states = optimiser_states * sum(_bytes(parameter) for parameter in network.parameters())

    def step() -> None:
        _loss(network(image), labels).backward()

    return states + peak_bytes(step, [*_tensors(network), image, labels])


def peak_bytes(action: Callable[[], object], held: Iterable[Tensor] = ()) -> int:
    """Return the peak memory in bytes of the tensors that are alive while an action runs.

    Tensors `held` before the action count as well; each of their storages counts once.
    """
    storages = _LiveStorages()
    for tensor in held:
        storages.note(tensor)
    with storages:
        action()
    return storages.peak


class _LiveStorages(TorchDispatchMode):
    """Tracks the storages that are alive after each operator, in the forward and in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._now = 0
        self._alive: dict[int, weakref.ref[Any]] = {}

    def note(self, tensor: Tensor) -> None:
        """Count a tensor's storage until it is released."""
        storage = tensor.untyped_storage()
        key = id(storage)  # a storage has one Python object as long as it is alive
        if key in self._alive:
            return
        size = storage.nbytes()

        def forget(_: Any) -> None:
            del self._alive[key]
            self._now -= size

        self._alive[key] = weakref.ref(storage, forget)
        self._now += size
        self.peak = max(self.peak, self._now)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        """Run an operator and count its results."""
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.note(leaf)
        return result


def _loss(scores: Tensor | list[Tensor], labels: Tensor) -> Tensor:
    """Return cross-entropy and soft Dice at every decoder stage but the coarsest, with the memory of the training loss."""
    stages = [scores] if isinstance(scores, Tensor) else scores
    terms = []
    for logits in stages[: max(1, len(stages) - 1)]:
        truth = labels[tuple(slice(None, size) for size in (len(labels), *logits.shape[2:]))].contiguous()
        target = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, truth[:, None], True)
        probabilities = logits.softmax(1)
        overlap = (probabilities * target).sum((2, 3, 4)) / probabilities.sum((2, 3, 4))
        terms.append(functional.cross_entropy(logits, truth, reduction="none").mean() - overlap.mean())
    return torch.stack(terms).sum()


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
