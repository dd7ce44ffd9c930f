"""Leave tests on the stand-in, and those in Triton's interpreter, to the processes that have them."""

import os
from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Without the plugin, PyTorch has no stand-in GPU; without the variable, Triton compiles for a GPU."""
    if collection_path.name == "on_standin":
        return None if config.pluginmanager.hasplugin("tests.gpu.plugin") else True
    if collection_path.name == "in_interpreter":
        return None if os.environ.get("TRITON_INTERPRET") == "1" else True
    return None
