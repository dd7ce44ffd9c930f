"""Run the commands of this environment on one thread, and make sure that they run the code of this repository."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("configs", "se_unet", "preprocessing", "planners", "inference", "trainers")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "BLOSC_NTHREADS")


class CommandError(RuntimeError):
    """A command did not end with 0."""


class Commands:
    """Runs commands in a working folder.

    Args:
        folder: the working folder, which is the current folder of every command.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        self._environment = kept | dict.fromkeys(THREADS, "1") | {"PYTHONHASHSEED": "0"}

    def run(self, name: str, *arguments: str | Path | float) -> None:
        """Run a console script that lies beside the Python interpreter.

        Raises:
            CommandError: the command failed; the error shows the end of what it printed.
        """
        self._call([Path(sys.executable).parent / name, *map(str, arguments), "--quiet"])

    def check_source(self) -> None:
        """Check that the commands import the packages of this repository.

        Raises:
            CommandError: the environment belongs to another checkout.
        """
        program = "import importlib, sys; print(*(importlib.import_module(name).__file__ for name in sys.argv[1:]), sep='\\n')"
        files = self._call([sys.executable, "-c", program, *PACKAGES]).split()
        wrong = [file for file in files if not Path(file).resolve().is_relative_to(ROOT)]
        if wrong:
            raise CommandError(f"{sys.executable} imports {', '.join(wrong)}, which is outside {ROOT}")

    def _call(self, line: Sequence[str | Path]) -> str:
        done = subprocess.run(line, cwd=self.folder, env=self._environment, text=True, capture_output=True, check=False)
        if done.returncode != 0:
            raise CommandError(f"{' '.join(map(str, line))} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
        return done.stdout
