"""Every command answers `--help` at once: nothing heavy is imported before work starts."""

import os
import subprocess
import sys
from importlib.metadata import EntryPoint, distribution

import pytest

HEAVY = {"torch", "numpy", "scipy", "pandas", "nibabel", "SimpleITK", "blosc2", "skimage", "matplotlib", "pydantic", "pydicom"}
COMMANDS = [point for point in distribution("se-unet").entry_points if point.group == "console_scripts"]


def run_python(source: str, *arguments: str) -> tuple[int, str, set[str]]:
    """Run Python source in its own process. Returns the exit code, what it printed, and the top-level modules it imported."""
    tail = (
        "\nfinally:\n    import sys\n    print('MODULES', *sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    body = "try:\n" + "\n".join(f"    {line}" for line in source.splitlines()) + tail
    done = subprocess.run(
        [sys.executable, "-c", body, *arguments], capture_output=True, text=True, timeout=60, env=os.environ | {"COLUMNS": "100"}
    )
    modules = next(line for line in done.stderr.splitlines() if line.startswith("MODULES"))
    return done.returncode, done.stdout, set(modules.split()[1:])


@pytest.mark.parametrize("command", COMMANDS, ids=lambda point: point.name)
def test_help_imports_nothing_heavy(command: EntryPoint) -> None:
    source = (
        f"import sys\nsys.argv[0] = '{command.name}'\nfrom {command.module} import {command.attr}\nsys.exit({command.attr}())"
    )
    code, printed, modules = run_python(source, "--help")
    assert code == 0
    assert printed.startswith(f"usage: {command.name}")
    assert not modules & HEAVY


def test_the_guard_sees_a_heavy_import() -> None:
    _, _, modules = run_python("import numpy")
    assert modules & HEAVY == {"numpy"}
