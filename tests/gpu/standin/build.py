"""Compile the stand-in's library, and load it before PyTorch. Nothing here may import torch."""

import ctypes
import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path

SOURCE = Path(__file__).with_name("guard.cpp")
BEFORE_TORCH = ("libgomp*", "libc10.so", "libtorch_cpu.so")  # in this order; all symbols of the library are in these


def why_not() -> str | None:
    """Return why the library cannot be built here, or None where it can."""
    if os.name != "posix":
        return "the stand-in GPU is built for Linux alone"
    if shutil.which("g++") is None:
        return "there is no g++ to build the stand-in GPU"
    if "+cpu" not in version("torch"):
        return "this build of PyTorch may have CUDA itself"
    return None


def build() -> Path:
    """Return the compiled library, which is kept in the folder for temporary files for each source and version of PyTorch."""
    torch = _torch()
    key = hashlib.sha256(SOURCE.read_bytes() + version("torch").encode()).hexdigest()[:16]
    library = Path(tempfile.gettempdir()) / f"se-unet-standin-{os.getuid()}-{key}.so"
    if library.is_file():
        return library
    includes = [f"-I{torch / 'include'}", f"-I{torch / 'include/torch/csrc/api/include'}"]
    unfinished = library.with_suffix(f".{os.getpid()}")
    words = ["g++", "-shared", "-fPIC", "-std=c++20", "-w", *includes, str(SOURCE), "-o", str(unfinished)]
    subprocess.run(words, check=True)
    unfinished.replace(library)
    return library


def load(library: Path) -> None:
    """Load PyTorch's own libraries and then the stand-in, so that PyTorch finds it when it is imported."""
    for pattern in BEFORE_TORCH:
        for one in sorted((_torch() / "lib").glob(pattern)):
            ctypes.CDLL(str(one), ctypes.RTLD_GLOBAL)
    ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)


def _torch() -> Path:
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("torch")
    return Path(found.origin).parent
