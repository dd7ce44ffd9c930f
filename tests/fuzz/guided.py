"""Coverage-guided fuzzing of one reader, by atheris (libFuzzer): inputs that reach new lines of ours are changed further.

    python -m pip install atheris
    python -m tests.fuzz --guided NIfTI --minutes 3

It begins with the same sound files; half of the changes are ours and half libFuzzer's. What must hold is the same, and is judged by the
same function. Libraries in C are not instrumented. libFuzzer ends its process in its own ways, so it has one, which is started again
after a crash, with all that was found so far.
"""

import importlib
import importlib.util
import mmap
import random
import re
import resource
import struct
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.fuzz.hunt import PATIENCE, ROOM, Findings, address_space, collect, empty, judge, make_corpus
from tests.fuzz.mutate import mutated
from tests.fuzz.targets import TARGETS, Target

_OURS = ["configs", "se_unet", "preprocessing", "planners", "inference", "trainers"]
_FORM = "<qqq"  # shared with the child: inputs read, accepted, bytes
_REACHED = re.compile(r"^#\d+\s+\w+\s+cov: (\d+) ft: (\d+) corp: (\d+)", re.MULTILINE)
GUIDED = tuple(target for target in TARGETS if target.name != "NIfTI, compressed")  # what is compressed hides from guidance


def is_available() -> bool:
    """Whether atheris is installed."""
    return importlib.util.find_spec("atheris") is not None


def hunt_guided(target: Target, seconds: float, seed: int, folder: Path) -> tuple[Findings, dict[str, int]]:
    """Let libFuzzer work on a target.

    Args:
        target: the reader.
        seconds: to work.
        seed: of the changes. The same seed finds the same as long as time does not end it earlier.
        folder: empty, for all files.

    Returns:
        What was found; and what was reached: edges of our code, features, and inputs that are kept as each reached something new.
    """
    sound = make_corpus(target, folder / "sound")
    for name in ("files", "kept", "crashes"):
        (folder / name).mkdir()
    for number, content in enumerate(sound):
        (folder / "kept" / f"sound_{number}").write_bytes(content)
    findings, reached = Findings(), {"edges": 0, "features": 0, "kept": 0}
    end, rounds = time.monotonic() + seconds, 0
    while (left := end - time.monotonic()) > 1:
        words = [sys.executable, "-m", "tests.fuzz.guided", target.name, str(folder), f"{left:.0f}", str(seed + rounds)]
        (folder / "found.log").touch()
        (folder / "counts").write_bytes(struct.pack(_FORM, 0, 0, 0))
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        text = done.stderr.decode(errors="replace")
        read, accepted, size = struct.unpack(_FORM, (folder / "counts").read_bytes())
        findings.inputs, findings.accepted, findings.bytes = (
            findings.inputs + read,
            findings.accepted + accepted,
            findings.bytes + size,
        )
        collect(findings, folder / "found.log")
        for numbers in _REACHED.findall(text)[-1:]:
            reached = dict(zip(reached, map(int, numbers), strict=True))
        if done.returncode == 0:
            break
        findings.add(f"the interpreter ends with {done.returncode}: {' '.join(text.split())[-300:]}", read)
        rounds += 1
        if read == 0:
            break
    return findings, reached


def _be_the_fuzzer(name: str, folder: Path, seconds: str, seed: str) -> None:
    """What the child does; libFuzzer ends it."""
    atheris: Any = importlib.import_module("atheris")
    warnings.simplefilter("ignore")
    target = next(target for target in GUIDED if target.name == name)
    sound = [path.read_bytes() for path in sorted((folder / "sound").glob("[0-9]*"))]
    path = folder / "files" / target.file
    with atheris.instrument_imports(include=_OURS):
        for content in sound:  # imports all that it needs
            empty(path.parent)
            path.write_bytes(content)
            judge(target, path)
    counts = (folder / "counts").open("r+b")
    shared = mmap.mmap(counts.fileno(), 0)
    log = (folder / "found.log").open("w", buffering=1)

    def read(content: bytes) -> None:
        empty(path.parent)
        path.write_bytes(content)
        found = judge(target, path)
        number, accepted, size = struct.unpack(_FORM, shared[:])
        shared[:] = struct.pack(_FORM, number + 1, accepted + (found == ""), size + len(content))
        if found:
            log.write(f"{number} {found}\n")
            (folder / "crashes" / f"{number:09d}").write_bytes(content)

    def change(content: bytes, most: int, number: int) -> bytes:
        return _changed(target, content, sound, random.Random(number), lambda data: bytes(atheris.Mutate(data, most)))[:most]

    limit = address_space() + 2 * ROOM  # libFuzzer's own tables, too
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    options = [f"-max_total_time={seconds}", f"-seed={seed}", f"-timeout={PATIENCE:.0f}", "-rss_limit_mb=0", "-close_fd_mask=3"]
    options += [f"-max_len={2 * max(map(len, sound)) + 1024}", f"-artifact_prefix={folder}/crashes/", str(folder / "kept")]
    atheris.Setup(["fuzz", *options], read, custom_mutator=change)
    atheris.Fuzz()


def _changed(target: Target, content: bytes, sound: Sequence[bytes], chance: random.Random, theirs: Any) -> bytes:
    """By the target's own mutations or by libFuzzer's, as often."""
    if chance.random() < 0.5:
        return bytes(theirs(content))
    try:
        return target.mutate(content, sound, chance)
    except Exception:  # noqa: BLE001 - what is no JSON any more, or no archive, is changed as bytes
        return mutated(content, sound, chance)


if __name__ == "__main__":
    _be_the_fuzzer(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
