"""Memory of a training step and of a predicted tile, counted on the real network without spending it.

The step runs on shapes alone (PyTorch's `meta` device), and every storage that comes to life or goes is noted: weights, activations,
gradients and what the operators hand on to each other. The peak of that is the answer. What operators keep to themselves is not seen;
the one that matters, the columns by which PyTorch convolves small single images on CPUs, is added.

Counted in float32. Mixed precision takes less; the difference is left for the workspaces of a GPU's libraries.
"""

import math
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

_COLUMNS_UP_TO = 20480  # batch x channels x Z x Y: below, PyTorch 2.13 convolves a single image on one CPU thread by columns


@lru_cache(maxsize=64)
def training_bytes(config: NetworkConfig, patch_size: Shape, batch_size: int, optimiser_states: int = 1) -> int:
    """Most bytes that are held at once during a training step: forward pass, loss, backward pass.

    Args:
        config: of the network.
        patch_size: voxels (Z, Y, X).
        batch_size: patches.
        optimiser_states: tensors that the optimiser keeps for each weight: 1 of SGD with momentum, 2 of AdamW.
    """
    network = build_network(config).to("meta").train()
    image = torch.empty(batch_size, config.input_channels, *patch_size, device="meta")
    labels = torch.empty(batch_size, *patch_size, dtype=torch.long, device="meta")
    states = optimiser_states * sum(_bytes(parameter) for parameter in network.parameters())

    def step() -> None:
        _loss(network(image), labels).backward()

    return states + peak_bytes(step, [*_tensors(network), image, labels])


def tile_bytes(config: NetworkConfig, patch_size: Shape, batch_size: int = 1, device: str = "cpu") -> int:
    """Most bytes that are held at once while the class scores of tiles are predicted.

    Args:
        config: of the network.
        patch_size: voxels (Z, Y, X) of a tile.
        batch_size: tiles at a time.
        device: `cpu` or `cuda`: CPUs convolve small single images with more memory.
    """
    network = build_network(config).to("meta").eval()
    image = torch.empty(batch_size, config.input_channels, *patch_size, device="meta")

    def predict() -> None:
        with torch.no_grad():
            for _ in range(2):  # kernels are merged for the first tile and kept for all others
                network(image)

    return peak_bytes(predict, [*_tensors(network), image], columns=device == "cpu")


def peak_bytes(action: Callable[[], object], held: Iterable[Tensor] = (), columns: bool = False) -> int:
    """Most bytes that are alive at once while an action runs.

    Args:
        action: any computation with tensors, of any device.
        held: tensors that exist before; their storages count from the start, each once.
        columns: add the columns of small convolutions, which a CPU keeps inside an operator.
    """
    storages = _LiveStorages(columns)
    for tensor in held:
        storages.note(tensor)
    with storages:
        action()
    return storages.peak


class _LiveStorages(TorchDispatchMode):
    """Follows which storages are alive, operator by operator, in the forward and in the backward pass."""

    def __init__(self, columns: bool):
        super().__init__()
        self.peak = 0
        self._columns = columns
        self._now = 0
        self._alive: dict[int, weakref.ref[Any]] = {}

    def note(self, tensor: Tensor) -> None:
        """Count a tensor's storage from now until it is freed."""
        storage = tensor.untyped_storage()
        key = id(storage)  # one Python object stands for a storage as long as it lives
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
        """Run an operator and note what it gives."""
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.note(leaf)
        if self._columns and func is torch.ops.aten.convolution.default:
            self.peak = max(self.peak, self._now + _column_bytes(args[0], args[1], result, transposed=args[6]))
        return result


def _column_bytes(image: Tensor, weight: Tensor, result: Tensor, transposed: bool) -> int:
    """What a convolution of a single small image takes on a CPU besides its result: a column of inputs for each voxel, and a copy."""
    if math.prod(image.shape[:4]) > _COLUMNS_UP_TO or image.shape[0] > 1:
        return 0
    voxels = (image if transposed else result)[0, 0].numel()
    has_columns = math.prod(weight.shape[2:]) > 1
    return _bytes(result) + has_columns * voxels * weight[0].numel() * weight.element_size()


def _loss(scores: Tensor | list[Tensor], labels: Tensor) -> Tensor:
    """Cross-entropy and soft Dice at every decoder stage but the coarsest: what training computes, as far as memory goes."""
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
