"""The wheel holds the six packages and nothing else, and its commands start where the checkout is not."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.repository.test_imports import PACKAGES, ROOT

COMMANDS = [point.name for point in distribution("se-unet").entry_points if point.group == "console_scripts"]

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command that must end well."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, env=kept | environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout by the backend that is installed here: nothing is fetched."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Commands of an environment with the wheel in it, which sees the libraries installed here but not the checkout."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
    python = Path(paths["scripts"]) / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    # A path in a .pth file is added, while the .pth files in there (the editable install) are not read.
    (Path(paths["purelib"]) / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python.parent


def test_holds_the_packages_and_the_presets_alone(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    code = {name for name in held if ".dist-info/" not in name}
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert code == expected
    assert {"configs/presets/default.json", "configs/presets/quick.json"} <= code
    assert any(name.endswith("licenses/LICENSE") for name in held)


def test_runs_the_installed_packages(scripts: Path, tmp_path: Path) -> None:
    places = run(scripts / "python", "-c", f"import {', '.join(PACKAGES)}; print(configs.__file__)", cwd=tmp_path).stdout
    assert Path(places.strip()).is_relative_to(scripts.parent)


@pytest.mark.parametrize("command", COMMANDS)
def test_command_answers_help_without_torch(scripts: Path, tmp_path: Path, command: str) -> None:
    done = run(scripts / command, "--help", cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert done.stdout.startswith(f"usage: {command}")
    assert "argparse" in imported  # the list of imports is there to be judged
    assert "torch" not in imported
