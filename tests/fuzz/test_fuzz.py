"""Every reader survives damaged files: it reads them, or refuses them with an `InputError` that gives the place and the problem.

    python -m pytest tests/fuzz -m fuzz -k NRRD    # 120,000 files for all readers together (`make fuzz`)
    SEED=7 python -m pytest tests/fuzz             # 2,000 other files than usual

The interpreter does not crash, and no file takes more than 20 seconds or 512 MiB (files have some hundred to some thousand bytes).
hypothesis shrinks a file that breaks a rule and prints it. The file also lies in pytest's folder of the test.
"""

import ctypes
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

if sys.platform != "linux":
    pytest.skip("the fuzzer needs Linux", allow_module_level=True)

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from configs.errors import Fault, InputError
from tests.fuzz import reader
from tests.fuzz.damage import Files, damaged, damaged_json
from tests.fuzz.targets import TARGETS, Target

ROOT = Path(__file__).parents[2]


def outcomes(read: Callable[[Path], object], path: Path, files: Files, number: int) -> Counter[str | None]:
    """Read a number of drawn files, all of which must keep the rules. Returns how often files were refused (None) and read ("")."""
    counts: Counter[str | None] = Counter()
    with reader.Reader(read, path) as process:

        @seed(int(os.environ.get("SEED", "0")))
        @settings(max_examples=number, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(files)
        def keeps_the_rules(content: bytes) -> None:
            found = process.judge(content)
            assert not found, found
            counts[found] += 1

        keeps_the_rules()
    return counts


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Generating overly large repr")  # of archives, which it prints only where one fails
@pytest.mark.parametrize(
    "inputs",
    [
        2_000,
        pytest.param(20_000, marks=pytest.mark.thorough),
        pytest.param(120_000, marks=pytest.mark.fuzz),
    ],
)
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_each_reader_survives_damaged_files(tmp_path: Path, target: Target, inputs: int) -> None:
    """`inputs` is the number of files of all readers together."""
    own = round(inputs * target.share / sum(each.share for each in TARGETS))
    sound = target.corpus(tmp_path)
    counts = outcomes(target.read, tmp_path / "files" / target.file, target.damage(sound), own)
    assert counts.total() >= own and counts[None] > 0


def crash(path: Path) -> None:
    if path.read_bytes() == b"5":
        ctypes.string_at(0)


def hang(path: Path) -> None:
    if path.read_bytes() == b"5":
        time.sleep(60)


def swallow(path: Path) -> None:
    """Reserve the memory that a header claims."""
    if path.read_bytes() == b"5":
        try:
            bytearray(2**40)
        except MemoryError as error:
            raise InputError(Fault(str(path), "the file cannot be read ()", "Copy it anew")) from error


def trip(path: Path) -> None:
    if path.read_bytes() == b"5":
        raise KeyError("shape")


def say_nothing(path: Path) -> None:
    if path.read_bytes() == b"5":
        raise InputError()


def refuse(path: Path) -> None:
    if path.read_bytes() == b"5":
        raise InputError(Fault(str(path), "it begins with 5", "Change that"))


@pytest.mark.parametrize(
    ("read", "violation"),
    [
        (crash, "the interpreter ends with SIGSEGV"),
        (hang, "it hangs"),
        (swallow, "more memory than the file can justify: test_fuzz.py:swallow"),
        (trip, "KeyError in test_fuzz.py:trip: 'shape'"),
        (say_nothing, "a refusal without a reason"),
        (refuse, None),
    ],
)
def test_what_is_wrong_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object], violation: str | None
) -> None:
    monkeypatch.setattr(reader, "PATIENCE", 0.5 if read is hang else 20.0)
    digits = st.integers(0, 9).map(lambda number: b"%d" % number)
    if violation is None:
        assert outcomes(read, tmp_path / "files/x", digits, 30) == {None: 1, "": 9}
        return
    with pytest.raises(AssertionError, match=violation):
        outcomes(read, tmp_path / "files/x", digits, 30)
    assert (tmp_path / "files/x").read_bytes() == b"5"
    with reader.Reader(read, tmp_path / "files/x") as process:  # continues after each violation
        assert [process.judge(content) == "" for content in (b"5", b"4", b"5", b"4")] == [False, True] * 2


@pytest.mark.parametrize("damage", [damaged, damaged_json])
def test_damage_is_mostly_new_and_of_json_mostly_json(damage: Callable[[Sequence[bytes]], Files]) -> None:
    sound = [json.dumps({"a": [1, 2], "b": {"c": "text"}}).encode(), b'{"x": 0}']
    drawn = []

    @seed(0)
    @settings(max_examples=400, deadline=None, database=None)  # what is drawn depends on the constants of all loaded modules too
    @given(damage(sound))
    def collect(content: bytes) -> None:
        drawn.append(content)

    collect()
    assert sum(content not in sound for content in drawn) > len(drawn) / 2
    assert len(set(drawn) - set(sound)) > len(drawn) / 4
    assert damage is damaged or 0.6 < np.mean([is_json(content) for content in drawn]) < 1


def is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        return False
    return True


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
def test_a_short_guided_run() -> None:
    words = [sys.executable, "-m", "tests.fuzz.guided", "NIfTI", "--minutes", "0.2"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cov:" in done.stderr
