"""Words of the command line that several programs here share."""

import argparse
from pathlib import Path

import torch

from se_unet.cpu.allocator import keep_freed_memory

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def add_timing(parser: argparse.ArgumentParser) -> None:
    """Options of programs that run modules in turn on random input; `choose_computation` reads them."""
    parser.add_argument("--rounds", type=int, default=10, help="that count (default: 10)")
    parser.add_argument("--seeds", type=int, default=3, help="over which the equivariance error is averaged; 0 measures none")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=DTYPES, help="default: bfloat16 on a GPU, float32 elsewhere")
    parser.add_argument("--threads", type=int, default=1, help="of a CPU (default: 1)")


def choose_computation(given: argparse.Namespace) -> tuple[torch.device, torch.dtype]:
    """Device and precision; this process is limited to the threads that were asked for, and keeps freed memory as the commands do."""
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    device = torch.device(given.device)
    return device, DTYPES[given.dtype or ("bfloat16" if device.type == "cuda" else "float32")]


def add_peer(parser: argparse.ArgumentParser, data: str) -> None:
    """Options of programs that compare with nnU-Net: its Python, the data, and how many threads each side has."""
    parser.add_argument("--peer", type=Path, required=True, help="Python of nnU-Net's environment")
    parser.add_argument("--data", type=Path, required=True, help=data)
    parser.add_argument("--threads", type=int, default=2, help="of each process that trains or predicts")
