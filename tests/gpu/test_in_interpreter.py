"""Each file of tests of the Triton kernels, in a process of its own in which Triton's interpreter runs them on the CPU."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(path.name for path in (ROOT / "tests/gpu/in_interpreter").glob("test_*.py"))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.parametrize("name", FILES)
def test_in_interpreter(name: str) -> None:
    words = [sys.executable, "-m", "pytest", "-n0", "-x", "--tb=short", f"tests/gpu/in_interpreter/{name}"]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
