"""Short descriptions of arrays and files, which are equal only where the contents are equal to the bit."""

import csv
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import blosc2
import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

Json = Any
WORDS = frozenset({"reasons", "version", "versions", "command", "date", "created", "left_out"})
TIMES = frozenset({"seconds", "data_wait_share", "peak_memory"})


def array_digest(array: NDArray[Any]) -> str:
    """The type, the shape and the SHA-256 of the values of an array."""
    values = np.ascontiguousarray(array)
    return f"{values.dtype} {list(values.shape)} {hashlib.sha256(values.tobytes()).hexdigest()}"


def tensor_digest(tensor: torch.Tensor) -> str:
    """The digest of a tensor's values."""
    return array_digest(tensor.detach().cpu().numpy())


def tensors_digest(tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """The digest of each named tensor."""
    return {name: tensor_digest(tensor) for name, tensor in tensors.items()}


def weights_digest(path: Path) -> dict[str, str]:
    """The digest of each tensor in a safetensors file."""
    return tensors_digest(load_file(path))


def stored_array(path: Path) -> NDArray[Any]:
    """A compressed array of a preprocessed case."""
    return blosc2.open(str(path), mode="r")[:]


def stored_digest(path: Path) -> str:
    """The digest of a compressed array of a preprocessed case."""
    return array_digest(stored_array(path))


def image_digest(path: Path) -> dict[str, Json]:
    """The digest of the stored voxels of a NIfTI file, its affine and the codes of its two transforms."""
    image = nib.load(path)
    codes = [int(image.header[name]) for name in ("qform_code", "sform_code")]
    return {"voxels": array_digest(np.asanyarray(image.dataobj)), "affine": image.affine.tolist(), "codes": codes}


def archive_digest(path: Path) -> dict[str, str]:
    """The digest of each array in an npz file."""
    with np.load(path, allow_pickle=False) as arrays:
        return {name: array_digest(arrays[name]) for name in arrays.files}


def read_table(path: Path, ignored: frozenset[str] = TIMES) -> list[dict[str, str]]:
    """The rows of a CSV file as text, without the columns that measure time and memory."""
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: cell for name, cell in row.items() if name not in ignored} for row in csv.DictReader(file)]


def read_values(path: Path, ignored: frozenset[str] = WORDS) -> Json:
    """The content of a JSON file without keys that hold words, versions and dates."""
    return without(json.loads(path.read_text(encoding="utf-8")), ignored)


def without(value: Json, ignored: frozenset[str]) -> Json:
    """Plain data without the ignored keys, at every depth."""
    if isinstance(value, dict):
        return {name: without(part, ignored) for name, part in value.items() if name not in ignored}
    return [without(part, ignored) for part in value] if isinstance(value, list) else value


def state_digest(path: Path) -> dict[str, Json]:
    """The network, the optimiser and the random generators of a training checkpoint, read without running any code of the file."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    rows = [without(row, TIMES) for row in content["state"]["rows"]]
    state = {**content["state"], "rows": rows}
    return {name: _plain(state if name == "state" else part) for name, part in content.items()}


def _plain(value: Json) -> Json:
    if isinstance(value, torch.Tensor):
        return tensor_digest(value)
    if isinstance(value, np.ndarray):
        return array_digest(value)
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return hashlib.sha256(repr(value).encode()).hexdigest() if len(value) > 50 else [_plain(part) for part in value]
    return value if isinstance(value, str | int | float | bool | None) else repr(value)
