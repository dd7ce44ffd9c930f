"""Each file of tests on the stand-in GPU, in a process of its own in which PyTorch reports a CUDA device."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.gpu.standin.build import why_not

ROOT = Path(__file__).parents[2]
FILES = sorted(path.name for path in (ROOT / "tests/gpu/on_standin").glob("test_*.py"))
pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@pytest.mark.parametrize("name", FILES)
def test_quick(name: str) -> None:
    check(name, "not thorough")


@pytest.mark.thorough
@pytest.mark.parametrize("name", FILES)
def test_thorough(name: str) -> None:
    check(name, "thorough")


def check(name: str, marked: str) -> None:
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.gpu.plugin",
        "-m",
        marked,
        "-x",
        "--tb=short",
        f"tests/gpu/on_standin/{name}",
    ]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    nothing = done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED and marked == "thorough"
    assert done.returncode == 0 or nothing, done.stdout[-6000:] + done.stderr[-2000:]
