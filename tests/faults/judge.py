"""Check whether every file of an output folder is whole, and whether two folders hold the same results."""

import csv
import gzip
import hashlib
import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from configs.files import PARTIAL

_TIMES = ("seconds", "data_wait_share", "peak_memory")  # columns of log.csv that differ between equal runs

_MEASURED = re.compile(rb"[0-9.]+ (ms|s|min|h|MB|GB|MiB|GiB)\b|[0-9.]+ ?%")  # times, memory and shares of time on pages
_EXPECTED = re.compile(rb'"seconds": [0-9.]+')  # durations of trainings as they were expected


def contents(folder: Path) -> dict[str, str]:
    """Return a digest of each file by its name. Times and logs do not count."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(_essence(path)).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not is_partial(path, folder) and path.suffix != ".log"
    }


def is_partial(path: Path, folder: Path) -> bool:
    """Return whether a file, or a folder above it, has the name of an unfinished file."""
    return any(part.startswith(PARTIAL) for part in path.relative_to(folder).parts)


def broken_files(folder: Path) -> list[str]:
    """Return the files under their final names that cannot be read completely, with the reasons."""
    broken = []
    for path in sorted(folder.rglob("*")):
        check = next((check for ending, check in _CHECKS.items() if path.name.endswith(ending)), None)
        if path.is_file() and check is not None and not is_partial(path, folder):
            try:
                check(path)
            except Exception as error:  # noqa: BLE001 - any exception of a reader shows a broken file
                broken.append(f"{path.relative_to(folder)}: {type(error).__name__}: {error}")
    return broken


def differences(found: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    """Return one sentence for each file that differs between two folders."""
    missing = [f"{name} is missing" for name in expected if name not in found]
    added = [f"{name} is not expected" for name in found if name not in expected]
    return missing + added + [f"{name} differs" for name in found if name in expected and found[name] != expected[name]]


def _essence(path: Path) -> bytes:
    if path.suffix == ".png":
        return b"a picture"
    if path.suffix == ".pt":
        return _checkpoint(path)
    content = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(content)
    if path.suffix == ".html":
        return _MEASURED.sub(b"", content)
    if path.name == "schedule.json":
        return _EXPECTED.sub(b"", content)
    if path.name == "log.csv":
        rows = [{key: row[key] for key in row if key not in _TIMES} for row in csv.DictReader(io.StringIO(content.decode()))]
        return json.dumps(rows).encode()
    return content


def _checkpoint(path: Path) -> bytes:
    import torch

    content = torch.load(path, weights_only=True)
    tensors = b"".join(tensor.numpy().tobytes() for tensor in content["network"].values())
    return tensors + str(content["state"]["epoch"]).encode()


def _read_image(path: Path) -> None:
    from preprocessing.formats.images import read_volumes

    np.asarray(read_volumes(path)[0]).sum()


def _read_array(path: Path) -> None:
    import blosc2

    np.asarray(blosc2.open(str(path), mode="r")[:])


def _read_weights(path: Path) -> None:
    from safetensors.numpy import load_file

    load_file(path)


def _read_bundle(path: Path) -> None:
    from inference.bundle.verify import verify_bundle

    verify_bundle(path)


def _read_network(path: Path) -> None:
    import onnx

    onnx.checker.check_model(onnx.load(path))


def _read_table(path: Path) -> None:
    text = path.read_text()
    rows = list(csv.reader(io.StringIO(text)))
    if not text.endswith("\n") or len({len(row) for row in rows}) != 1:
        raise ValueError("it ends in the middle of a row")


def _read_picture(path: Path) -> None:
    from matplotlib.image import imread

    imread(path)


def _read_page(path: Path) -> None:
    if not path.read_text().rstrip().endswith("</html>"):
        raise ValueError("it does not end as a page")


_CHECKS: dict[str, Callable[[Path], object]] = {
    ".nii.gz": _read_image,
    ".json": lambda path: json.loads(path.read_text()),
    ".safetensors": _read_weights,
    ".b2nd": _read_array,
    ".pt": _checkpoint,
    ".csv": _read_table,
    ".png": _read_picture,
    ".html": _read_page,
    ".zip": _read_bundle,
    ".onnx": _read_network,
}
