"""Measure time, memory and equivariance error of untrained networks of equal multiply-adds: plain, se with one or four scales, pyramid.

The networks take turns. Ratios are medians over rounds of a network's time divided by the plain network's.

    python -m benchmarks.cost.networks --output networks.json
"""

import argparse
import statistics
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from benchmarks.common.options import add_timing, choose_computation
from benchmarks.common.rounds import describe_device, forward, forward_backward, median_ratio, peak_memory, time_in_turn
from benchmarks.common.tables import text_table
from configs.files import write_json
from configs.network import NetworkConfig, ScaleGroup
from se_unet import build_network
from se_unet.cost import activation_bytes, multiply_adds
from se_unet.equivariance import equivariance_error

STEP = 2 ** (1 / 3)
PLAIN = "plain"
NETWORKS = {PLAIN: ("plain", 0), "se, 1 scale": ("se", 1), "se, 4 scales": ("se", 4), "pyramid, 4 scales": ("pyramid", 4)}


def describe(name: str, features: int) -> NetworkConfig:
    """A network of three stages with this many channels at the finest."""
    family, scales = NETWORKS[name]
    group = ScaleGroup(smallest_sigma=0.8, step=STEP, number=scales) if scales else None
    return NetworkConfig.model_validate(
        {
            "family": family,
            "input_channels": 1,
            "output_channels": 3,
            "features": (features, 2 * features, 4 * features),
            "strides": ((1, 1, 1), (2, 2, 2), (2, 2, 2)),
            "kernels": ((3, 3, 3),) * 3,
            "encoder_blocks": (2, 2, 2),
            "decoder_blocks": (2, 2),
            "scale_group": group,
        }
    )


def equal_cost(name: str, wanted: int, shape: Sequence[int]) -> NetworkConfig:
    """The network whose multiply-adds in training are nearest to those wanted."""
    candidates = []
    for features in range(1, 1000):
        config = describe(name, features)
        count = multiply_adds(build_network(config), shape)
        candidates.append((abs(count - wanted), features))
        if count > wanted:
            break
    return describe(name, min(candidates)[1])


def error_of(config: NetworkConfig, seeds: int) -> float:
    """Equivariance error at factor 0.9, mean over random weights."""
    errors = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        network = build_network(config.model_copy(update={"projection": "mean"})).eval()
        errors.append(equivariance_error(network, 0.9, stride=config.total_stride[0], seeds=(seed,)))
    return statistics.mean(errors)


def measure(
    configs: dict[str, NetworkConfig], shape: Sequence[int], rounds: int, device: torch.device, dtype: torch.dtype
) -> list[dict[str, Any]]:
    """One row per network."""
    torch.manual_seed(0)
    networks = {name: build_network(config).to(device) for name, config in configs.items()}
    image = torch.randn(*shape, device=device)
    evaluated = time_in_turn({name: forward(network, image, dtype) for name, network in networks.items()}, rounds, device)
    steps = {name: forward_backward(network, image, dtype) for name, network in networks.items()}
    stepped = time_in_turn(steps, rounds, device)
    rows = []
    for name, config in configs.items():
        again = build_network(config.model_copy(update={"checkpointing": True}))
        rows.append(
            {
                "network": name,
                "features": list(config.features),
                "parameters": sum(parameter.numel() for parameter in networks[name].parameters()),
                "multiply_adds": multiply_adds(networks[name].train(), shape),
                "forward_ms": 1e3 * statistics.median(evaluated[name]),
                "forward_ratio": median_ratio(evaluated[name], evaluated[PLAIN]),
                "step_ms": 1e3 * statistics.median(stepped[name]),
                "step_ratio": median_ratio(stepped[name], stepped[PLAIN]),
                "kept_mb": activation_bytes(networks[name], shape) / 1e6,
                "kept_per_scale_mb": [round(size / 1e6, 1) for size in activation_bytes_per_scale(config, shape)],
                "checkpointed_mb": activation_bytes(again, shape) / 1e6,
                "peak_bytes": peak_memory(steps[name], device),
            }
        )
    return rows


def activation_bytes_per_scale(config: NetworkConfig, shape: Sequence[int]) -> tuple[int, ...]:
    """Bytes that each scale adds to what `activation_bytes` counts of a network in training, the smallest scale first.

    The first entry holds what does not belong to a scale; a network without scales has it alone.

    Args:
        config: configuration of the network.
        shape: shape of the image, (B, C, Z, Y, X).
    """
    group = config.scale_group
    if group is None:
        return (activation_bytes(build_network(config), shape),)
    totals = [0]
    for number in range(1, group.number + 1):
        fewer = config.model_copy(update={"scale_group": group.model_copy(update={"number": number})})
        totals.append(activation_bytes(build_network(fewer), shape))
    return tuple(larger - smaller for smaller, larger in pairwise(totals))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--features", type=int, default=8, help="features of the plain network's finest stage; default: %(default)s"
    )
    parser.add_argument("--patch", type=int, nargs=3, default=[40, 56, 40], metavar=("Z", "Y", "X"))
    parser.add_argument("--batch", type=int, default=2)
    add_timing(parser)
    parser.add_argument("--output", type=Path, default=Path("networks.json"))
    given = parser.parse_args(arguments)
    device, dtype = choose_computation(given)
    shape = (given.batch, 1, *given.patch)
    plain = describe(PLAIN, given.features)
    wanted = multiply_adds(build_network(plain), shape)
    configs = {name: plain if name == PLAIN else equal_cost(name, wanted, shape) for name in NETWORKS}
    rows = measure(configs, shape, given.rounds, device, dtype)
    for row in rows:
        row["equivariance_error"] = error_of(configs[row["network"]], given.seeds) if given.seeds else None
    print(text_table(rows, COLUMNS))
    result = {"device": describe_device(device), "dtype": str(dtype), "torch": torch.__version__, "shape": list(shape),
              "rounds": given.rounds, "rows": rows}  # fmt: skip
    write_json(given.output, result)


COLUMNS = {
    "network": "{}",
    "features": "{}",
    "parameters": "{:,}",
    "multiply_adds": "{:.2e}",
    "forward_ms": "{:.1f}",
    "forward_ratio": "{:.2f}",
    "step_ms": "{:.1f}",
    "step_ratio": "{:.2f}",
    "kept_mb": "{:.1f}",
    "kept_per_scale_mb": "{}",
    "checkpointed_mb": "{:.1f}",
    "equivariance_error": "{:.2f}",
}

if __name__ == "__main__":
    main()
