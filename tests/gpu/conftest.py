"""Leave tests on the stand-in to the process that has it."""

from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Without the plugin, PyTorch has no stand-in GPU."""
    return True if collection_path.name == "on_standin" and not config.pluginmanager.hasplugin("tests.gpu.plugin") else None
