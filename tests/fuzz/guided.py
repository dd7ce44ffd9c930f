"""Fuzz some readers, guided by coverage: atheris (libFuzzer) changes the draws further that reach new lines of our code.

    python -m pip install atheris
    python -m tests.fuzz.guided NIfTI NRRD --minutes 3

libFuzzer changes the choices from which hypothesis draws damaged files. The rules are those of the tests. The first file that breaks a
rule ends the run of its reader with exit code 1, and its path is printed. Libraries in C are not instrumented. libFuzzer ends its own
process, so each reader has a process.
"""

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from hypothesis import given, settings

from tests.fuzz.reader import PATIENCE, ROOM, empty, judge, limit_memory
from tests.fuzz.targets import TARGETS

_OURS = ["configs", "se_unet", "preprocessing", "planners", "inference", "trainers"]


def main() -> int:
    """Fuzz the readers one after the other, each in a child process, or one reader in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="+", choices=[target.name for target in TARGETS], help="names of the readers")
    parser.add_argument("--minutes", type=float, default=3, help="minutes for each reader; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="seed of libFuzzer; default: %(default)s")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    options = ["--minutes", str(arguments.minutes), "--seed", str(arguments.seed)]
    if arguments.child:
        _be_the_fuzzer(arguments.targets[0], 60 * arguments.minutes, arguments.seed)
    if importlib.util.find_spec("atheris") is None:
        print("guided fuzzing needs atheris: python -m pip install atheris", file=sys.stderr)
        return 2
    words = [sys.executable, "-m", "tests.fuzz.guided", "--child", *options]
    codes = [subprocess.run([*words, name], check=False).returncode for name in arguments.targets]
    return int(any(codes))


def _be_the_fuzzer(name: str, seconds: float, seed: int) -> None:
    """Fuzz one reader until libFuzzer ends the process."""
    atheris: Any = importlib.import_module("atheris")
    warnings.simplefilter("ignore")
    target = next(target for target in TARGETS if target.name == name)
    folder = Path(tempfile.mkdtemp(prefix="se-unet-fuzz-"))
    (folder / "files").mkdir()
    path = folder / "files" / target.file

    def found_in(content: bytes) -> str | None:
        empty(path.parent)
        path.write_bytes(content)
        return judge(target.read, path)

    with atheris.instrument_imports(include=_OURS):
        sound = target.corpus(folder)
        for content in sound:  # imports all modules of the reader
            found_in(content)

    @settings(database=None, deadline=None)
    @given(target.damage(sound))
    def keeps_the_rules(content: bytes) -> None:
        if found := found_in(content):
            raise RuntimeError(f"{found}: {path}")

    limit_memory(3 * ROOM)  # includes the tables of libFuzzer
    options = [f"-max_total_time={seconds:.0f}", f"-seed={seed}", f"-timeout={PATIENCE:.0f}", "-rss_limit_mb=0", "-max_len=8192"]
    atheris.Setup(["fuzz", *options, f"-artifact_prefix={folder}/"], keeps_the_rules.hypothesis.fuzz_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
