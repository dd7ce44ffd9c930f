"""Weight files: safetensors, which contain no code, and PyTorch checkpoints read by the restricted unpickler."""

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
    """Read tensors, numbers, strings and plain containers; PyTorch's restricted unpickler builds nothing but these and `allowed`.

    `before_1_6` also accepts files of PyTorch before 1.6, which are not ZIP archives. The remedy is advice if the file cannot be read.

    Raises:
        InputError: the file is missing, damaged, states sizes beyond its own, or contains code.
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
    """Return whether the file begins as a ZIP archive, PyTorch's own criterion; `zipfile.is_zipfile` accepts other files, too."""
    with path.open("rb") as file:
        return file.read(len(_ARCHIVE)) == _ARCHIVE


def _check_archive(path: Path) -> None:
    """Raise `ValueError` unless the file is a ZIP archive of uncompressed entries, which cannot exceed the archive in size."""
    if not _is_archive(path):
        raise ValueError("not a ZIP archive, the format of PyTorch since version 1.6")
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size for entry in entries):
        raise ValueError("the archive is compressed; PyTorch writes uncompressed ones")
    claimed, whole = sum(entry.file_size for entry in entries), path.stat().st_size
    if claimed > whole:
        raise ValueError(f"the entries state {claimed} bytes, but the file has {whole}")


def save_weights(network: nn.Module, path: Path) -> None:
    """Write the network's parameters and persistent buffers as safetensors, atomically."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary)


def load_weights(network: nn.Module, path: Path) -> None:
    """Load weights from a safetensors file into the network.

    Raises:
        InputError: the file cannot be read, or its tensors do not fit; all missing, unexpected and misshapen tensors are listed.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        fault = fault_of(error, str(path), f"the weights cannot be read ({error})", "Check the path, or train the fold")
        raise InputError(fault) from error
    expected = network.state_dict()
    faults = [
        Fault(f"{path}: {name}", "the network has this tensor, but the file does not", _REMEDY)
        for name in expected.keys() - tensors
    ]
    faults += [
        Fault(f"{path}: {name}", "the file has this tensor, but the network does not", _REMEDY)
        for name in tensors.keys() - expected
    ]
    faults += [
        Fault(
            f"{path}: {name}", f"the shape is {tuple(tensors[name].shape)}, but the network needs {tuple(tensor.shape)}", _REMEDY
        )
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    if faults:
        raise InputError(*sorted(faults, key=str))
    network.load_state_dict(tensors)


_REMEDY = "Use weights and plan of the same model"
