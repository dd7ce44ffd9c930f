"""Weights on disk: safetensors, which hold numbers and nothing that could run."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from configs.errors import DAMAGE, Fault, InputError, fault_of
from configs.files import replacing

_ARCHIVE = b"PK\x03\x04"
_DAMAGE = (*DAMAGE, AttributeError, AssertionError, zipfile.BadZipFile, UnpicklingError)


def load_restricted(path: Path, remedy: str, allowed: Sequence[Any] = (), before_1_6: bool = False) -> Any:
    """Tensors, numbers, texts and plain containers; PyTorch's restricted unpickler builds nothing else.

    Args:
        path: of the file.
        remedy: told where it cannot be read.
        allowed: further classes or functions, for `torch.serialization.safe_globals`.
        before_1_6: also take the format of PyTorch before 1.6, which is no archive.

    Raises:
        InputError: the file is missing, damaged, claims more than it holds, or holds something that could run.
    """
    try:
        if not before_1_6 or _is_archive(path):
            _check_archive(path)
        with torch.serialization.safe_globals(list(allowed)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGE as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(Fault(str(path), f"the checkpoint cannot be read ({reason})", remedy)) from error


def _is_archive(path: Path) -> bool:
    """By its first bytes, as PyTorch decides; Python's own judgement would pass what PyTorch reads in another way."""
    with path.open("rb") as file:
        return file.read(len(_ARCHIVE)) == _ARCHIVE


def _check_archive(path: Path) -> None:
    """PyTorch stores its files as they are, so that none can be larger than the archive."""
    if not _is_archive(path):
        raise ValueError("it is not what PyTorch writes since version 1.6, an archive")
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size for entry in entries):
        raise ValueError("it is compressed, which PyTorch's files are not")
    claimed, whole = sum(entry.file_size for entry in entries), path.stat().st_size
    if claimed > whole:
        raise ValueError(f"its parts claim {claimed} bytes, and the file has {whole}")


def save_weights(network: nn.Module, path: Path) -> None:
    """Write the network's parameters and persistent buffers, whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary)


def load_weights(network: nn.Module, path: Path) -> None:
    """Read weights into the network.

    Raises:
        InputError: the file cannot be read, or its tensors do not fit; every missing, unexpected and misshapen tensor is named.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        fault = fault_of(error, str(path), f"no readable weights ({error})", "Check the path, or train the fold")
        raise InputError(fault) from error
    expected = network.state_dict()
    faults = [
        Fault(f"{path}: {name}", "the network has this tensor, the file does not", _REMEDY) for name in expected.keys() - tensors
    ]
    faults += [
        Fault(f"{path}: {name}", "the file has this tensor, the network does not", _REMEDY) for name in tensors.keys() - expected
    ]
    faults += [
        Fault(f"{path}: {name}", f"the shape is {tuple(tensors[name].shape)}, the network's {tuple(tensor.shape)}", _REMEDY)
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    if faults:
        raise InputError(*sorted(faults, key=str))
    network.load_state_dict(tensors)


_REMEDY = "Use the weights together with the plan of the same model"
