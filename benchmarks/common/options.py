"""Options of the command line that several programs share."""

import argparse
from pathlib import Path

import torch

from se_unet.cpu.allocator import keep_freed_memory

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def add_timing(parser: argparse.ArgumentParser) -> None:
    """Add the options of programs that time modules on random input. `choose_computation` reads them."""
    parser.add_argument("--rounds", type=int, default=10, help="number of rounds; default: %(default)s")
    parser.add_argument(
        "--seeds", type=int, default=3, help="number of seeds for the mean equivariance error; 0 does not measure it"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="device; default: %(default)s")
    parser.add_argument("--dtype", choices=DTYPES, help="precision; default: bfloat16 on a GPU, float32 on a CPU")
    parser.add_argument("--threads", type=int, default=1, help="number of CPU threads; default: %(default)s")


def choose_computation(given: argparse.Namespace) -> tuple[torch.device, torch.dtype]:
    """Return device and precision. Limits this process to the given number of threads, and keeps freed memory as the commands do."""
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    device = torch.device(given.device)
    return device, DTYPES[given.dtype or ("bfloat16" if device.type == "cuda" else "float32")]


def add_peer(parser: argparse.ArgumentParser, data: str) -> None:
    """Add the options of programs that compare with nnU-Net: its Python, the data, and the number of threads."""
    parser.add_argument("--peer", type=Path, required=True, help="path to the Python of an environment with nnU-Net")
    parser.add_argument("--data", type=Path, required=True, help=data)
    parser.add_argument(
        "--threads", type=int, default=2, help="number of threads of each process that trains or predicts; default: %(default)s"
    )
