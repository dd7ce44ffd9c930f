"""Measure time, memory and equivariance error of single layers: group convolutions, also with sampled kernels, and ordinary ones.

The layers of a width take turns. Ratios are medians over rounds of a layer's time divided by the group convolution's.

    python -m benchmarks.cost.layers --output layers.json
"""

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.common.options import add_timing, choose_computation
from benchmarks.common.rounds import (
    describe_device,
    forward,
    forward_backward,
    matrix_rate,
    median_ratio,
    memory_rate,
    peak_memory,
    time_in_turn,
)
from benchmarks.common.tables import text_table
from configs.files import write_json
from se_unet import GroupConvolution
from se_unet.cost import activation_bytes, multiply_adds
from se_unet.equivariance import equivariance_error
from se_unet.layers.grids import channels_innermost

STEP = 2 ** (1 / 3)
SIGMAS = tuple((STEP**k,) * 3 for k in range(4))  # 1 to 2 voxels
GROUP = "group"
Layer = GroupConvolution | nn.Conv3d


def layers_of(channels: int) -> dict[str, Layer]:
    """The layers that are compared. The ordinary convolution of `sqrt(S) C` channels has the multiply-adds of S of C channels."""
    wide = round(len(SIGMAS) ** 0.5 * channels)
    return {
        GROUP: GroupConvolution(channels, channels, SIGMAS),
        "sampled K=5": GroupConvolution(channels, channels, SIGMAS, taps="sampled", size=5, engine="dense"),
        "sampled K=9": GroupConvolution(channels, channels, SIGMAS, taps="sampled", size=9, engine="dense"),
        "plain 3^3 of equal multiply-adds": nn.Conv3d(wide, wide, 3, padding=1),
    }


def scales_of(layer: Layer) -> int | None:
    """Return the number of scales of the layer's input, or None for ordinary features."""
    return layer.scales if isinstance(layer, GroupConvolution) else None


def error_of(name: str, seeds: int) -> float:
    """Equivariance error at one step of the group, over random fields, of a layer of two channels: it does not depend on their number."""
    torch.manual_seed(0)
    layer = layers_of(2)[name]
    scales = scales_of(layer)
    shift = 1 if scales else 0
    return equivariance_error(
        layer, STEP, channels=layer.weight.shape[1], scales=scales, shift=shift, size=48, interior=11, seeds=range(seeds)
    )


def measure(channels: int, batch: int, size: int, rounds: int, device: torch.device, dtype: torch.dtype) -> list[dict[str, Any]]:
    """Return one row of the table for each layer of this width, on cubes of `size` voxels."""
    torch.manual_seed(0)
    layers = {name: (layer.to(device), _input(layer, batch, size, device)) for name, layer in layers_of(channels).items()}
    evaluations = {name: forward(module, x, dtype) for name, (module, x) in layers.items()}
    steps = {name: forward_backward(module, x, dtype, input_gradient=True) for name, (module, x) in layers.items()}
    evaluated, stepped = time_in_turn(evaluations, rounds, device), time_in_turn(steps, rounds, device)
    rows = []
    for name, (module, x) in layers.items():
        rows.append(
            {
                "channels": channels,
                "layer": name,
                "multiply_adds": multiply_adds(module, x.shape),
                "forward_ms": 1e3 * statistics.median(evaluated[name]),
                "forward_ratio": median_ratio(evaluated[name], evaluated[GROUP]),
                "step_ms": 1e3 * statistics.median(stepped[name]),
                "step_ratio": median_ratio(stepped[name], stepped[GROUP]),
                "kept_mb": activation_bytes(module, x.shape) / 1e6,
                "peak_bytes": peak_memory(steps[name], device),
                "least_bytes": 2 * x.numel() * dtype.itemsize,
            }
        )
    return rows


def _input(layer: Layer, batch: int, size: int, device: torch.device) -> Tensor:
    """Return random features in the memory layout that networks use."""
    scales = scales_of(layer)
    shape = (batch, layer.weight.shape[1], *([scales] if scales else []), size, size, size)
    return channels_innermost(torch.randn(shape, device=device))


def add_fractions(rows: Sequence[dict[str, Any]], products: float, copies: float) -> None:
    """Add the shares of the measured rates that a forward pass reaches: of multiply-adds, and of reading input and writing output."""
    for row in rows:
        seconds = row["forward_ms"] / 1e3
        row["matrix_share"] = row["multiply_adds"] / seconds / products
        row["memory_share"] = row["least_bytes"] / seconds / copies


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table and write a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, nargs="+", default=[8, 16, 32], metavar="C")
    parser.add_argument(
        "--batch",
        type=int,
        default=2,
        help="number of images; default: %(default)s, because PyTorch convolves single thin images more slowly on one CPU thread",
    )
    parser.add_argument("--size", type=int, default=40, help="voxels along each axis; default: %(default)s")
    add_timing(parser)
    parser.add_argument("--output", type=Path, default=Path("layers.json"))
    given = parser.parse_args(arguments)
    device, dtype = choose_computation(given)
    rows = [row for channels in given.channels for row in measure(channels, given.batch, given.size, given.rounds, device, dtype)]
    add_fractions(rows, matrix_rate(device, dtype), memory_rate(device))
    errors = {name: error_of(name, given.seeds) for name in layers_of(1)} if given.seeds else {}
    for row in rows:
        row["equivariance_error"] = errors.get(row["layer"])
    print(text_table(rows, COLUMNS))
    result = {"device": describe_device(device), "dtype": str(dtype), "torch": torch.__version__, "batch": given.batch, "size": given.size,
              "sigmas": [sigma[0] for sigma in SIGMAS], "rounds": given.rounds, "rows": rows}  # fmt: skip
    write_json(given.output, result)


COLUMNS = {
    "channels": "{:d}",
    "layer": "{}",
    "multiply_adds": "{:.2e}",
    "forward_ms": "{:.2f}",
    "forward_ratio": "{:.2f}",
    "step_ms": "{:.2f}",
    "step_ratio": "{:.2f}",
    "kept_mb": "{:.1f}",
    "equivariance_error": "{:.1e}",
    "matrix_share": "{:.0%}",
    "memory_share": "{:.0%}",
}

if __name__ == "__main__":
    main()
