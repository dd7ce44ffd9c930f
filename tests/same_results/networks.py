"""What networks compute for weights and images that a seed draws."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from configs.network import NetworkConfig
from configs.plan import Plan
from se_unet import build_network
from tests.same_results.digests import Json, tensor_digest, tensors_digest

Shape = tuple[int, ...]

_SKELETON: dict[str, Any] = {
    "input_channels": 2,
    "output_channels": 3,
    "features": (4, 6, 8),
    "strides": ((1, 1, 1), (1, 2, 2), (2, 2, 2)),
    "kernels": ((1, 3, 3), (3, 3, 3), (3, 3, 3)),
    "encoder_blocks": (2, 2, 2),
    "decoder_blocks": (1, 2),
    "spacing": (2.0, 1.0, 1.0),
}
_GROUP = {"smallest_sigma": 0.8, "step": 2 ** (1 / 3), "number": 4}
_ONE = {"scale_group": {"smallest_sigma": 0.9, "number": 1}}
_SE: dict[str, Any] = {"family": "se", "scale_group": _GROUP}
_PUBLISHED: dict[str, Any] = {
    "block": "residual",
    "input_channels": 2,
    "output_channels": 3,
    "strides": ((2, 2, 2), (2, 2, 2), (1, 1, 1)),
    "kernels": ((5, 5, 5),) * 3,
    "encoder_blocks": (2, 2, 2),
    "decoder_blocks": (1, 1),
    "projection": "mean",
    "border": "zero",
    "basis_order": "tensor",
    "deep_supervision": False,
}
_PUBLISHED_GROUP = {"smallest_sigma": 0.9**3, "step": 1 / 0.9, "number": 4}

SMALL_NETWORKS: dict[str, dict[str, Any]] = {
    "plain": _SKELETON | {"family": "plain"},
    "plain residual": _SKELETON | {"family": "plain", "block": "residual"},
    "plain slices": _SKELETON | {"family": "plain", "kernels": ((1, 3, 3),) * 3, "strides": ((1, 1, 1), (1, 2, 2), (1, 2, 2))},
    "se one scale": _SKELETON | _SE | _ONE,
    "se four scales": _SKELETON | _SE,
    "se residual": _SKELETON | _SE | {"block": "residual"},
    "se slices": _SKELETON | _SE | {"kernels": ((1, 3, 3),) * 3, "strides": ((1, 1, 1), (1, 2, 2), (1, 2, 2))},
    "se mixing": _SKELETON | _SE | {"scale_mixing": 1, "projection": "logsumexp", "border": "reflect"},
    "se first order": _SKELETON | _SE | {"basis_order": 1, "projection": "max", "border": "zero", "deep_supervision": False},
    "se tensor": _SKELETON | _SE | {"basis_order": "tensor", "projection": "mean", "border": "renormalise"},
    "se dropout": _SKELETON | _SE | {"scale_dropout": 0.5},
    "pyramid": _SKELETON | {"family": "pyramid", "scale_group": _GROUP | {"number": 3}},
    "pyramid mean": _SKELETON | {"family": "pyramid", "scale_group": _GROUP | {"number": 2}, "projection": "mean"},
    "wimmer2023": _PUBLISHED | {"family": "wimmer2023", "features": (2, 3, 4), "scale_group": _PUBLISHED_GROUP},
    "wimmer2023_baseline": _PUBLISHED | {"family": "wimmer2023_baseline", "features": (4, 6, 8)},
}


def record_small_networks() -> dict[str, Json]:
    """Layout, outputs, loss and gradients of small networks of every family."""
    recorded = {}
    for name, description in SMALL_NETWORKS.items():
        network, image = build(NetworkConfig.model_validate(description), (8, 16, 16))
        layout = layout_of(network)
        recorded[name] = {"layout": layout, "weights": tensors_digest(network.state_dict()), **record_outputs(network, image)}
        recorded[name] |= record_gradients(network, image)
    return recorded


def record_planned_networks(plan: Path) -> dict[str, Json]:
    """Layout and outputs of all networks of a plan file."""
    recorded = {}
    for name, configuration in Plan.read(plan).configurations.items():
        for network_name, planned in configuration.networks.items():
            network, image = build(planned.network, smallest_shape(planned.network), batch=1)
            recorded[f"{name} {network_name}"] = {"layout": layout_of(network), **record_outputs(network, image)}
    return recorded


def build(config: NetworkConfig, shape: Shape, batch: int = 2) -> tuple[nn.Module, Tensor]:
    """A network and an image of a given shape, both drawn from seed 0."""
    torch.manual_seed(0)
    network = build_network(config)
    return network, torch.randn((batch, config.input_channels, *shape), generator=torch.Generator().manual_seed(1))


def smallest_shape(config: NetworkConfig) -> Shape:
    """The smallest image that leaves two voxels at the coarsest stage."""
    stride = [math.prod(strides[axis] for strides in config.strides) for axis in range(3)]
    longest = max(range(3), key=lambda axis: stride[axis])
    return tuple(size * 2 if axis == longest else size for axis, size in enumerate(stride))


def layout_of(network: nn.Module) -> list[str]:
    """The names and shapes of everything that a weights file holds, in their order: older files load only where these stay."""
    return [f"{name} {list(tensor.shape)}" for name, tensor in network.state_dict().items()]


def record_outputs(network: nn.Module, image: Tensor) -> dict[str, Json]:
    """The digest of the scores in evaluation mode, and a few numbers of them to compare between machines."""
    with torch.inference_mode():
        scores = network.eval()(image)
    return {"scores": tensor_digest(scores), "numbers": numbers_of(scores)}


def record_gradients(network: nn.Module, image: Tensor) -> dict[str, Json]:
    """The loss in training mode and the digests of all gradients; each decoder stage counts in the loss."""
    loss, gradients = loss_and_gradients(network, image)
    return {"loss": loss, "gradient_norm": norm_of(gradients), "gradients": tensors_digest(gradients)}


def loss_and_gradients(network: nn.Module, image: Tensor) -> tuple[float, Mapping[str, Tensor]]:
    """A smooth loss of all scores, and the gradient of every parameter that it depends on."""
    torch.manual_seed(2)
    network.train().zero_grad()
    outputs = network(image)
    stages = outputs if isinstance(outputs, list | tuple) else [outputs]
    loss = sum((stage.softmax(1).square().mean() for stage in stages), torch.zeros(()))
    loss.backward()
    named = network.named_parameters()
    return float(loss.detach()), {name: parameter.grad for name, parameter in named if parameter.grad is not None}


def norm_of(gradients: Mapping[str, Tensor]) -> float:
    """The Euclidean norm of all gradients together."""
    return math.sqrt(sum(float(part.double().square().sum()) for part in gradients.values()))


def numbers_of(scores: Tensor) -> list[float]:
    """Mean, standard deviation and some single values."""
    values = scores.double().flatten()
    picked = values[:: max(1, len(values) // 5)][:6]
    return [float(values.mean()), float(values.std()), *map(float, picked)]


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch compute on one thread for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
