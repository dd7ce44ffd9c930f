"""A short run of the fuzzer, and that it sees what it looks for."""

import ctypes
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("the fuzzer needs Linux", allow_module_level=True)

from configs.errors import Fault, InputError
from tests.fuzz import guided, hunt
from tests.fuzz.mutate import mutated, mutated_json
from tests.fuzz.targets import TARGETS, Target

ROOT = Path(__file__).parents[2]
forking = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.mark.slow
def test_a_short_run(tmp_path: Path) -> None:
    """`make fuzz` reads more than 100,000."""
    words = [sys.executable, "-m", "tests.fuzz", "--inputs", "2000", "--seed", "3", "-o", str(tmp_path / "fuzz.json")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "fuzz.json").read_text())
    assert found["inputs"] >= 1990 and found["broken"] == 0
    assert {row["reader"] for row in found["rows"]} == {target.name for target in TARGETS}
    assert all(row["inputs"] > 0 for row in found["rows"]) and sum(row["accepted"] for row in found["rows"]) > 100


@pytest.mark.slow
@pytest.mark.parametrize(
    "inputs",
    [pytest.param(20_000, marks=pytest.mark.thorough, id="share"), pytest.param(120_000, marks=pytest.mark.fuzz, id="all")],
)
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_each_reader_survives_damaged_files(tmp_path: Path, target: Target, inputs: int) -> None:
    """`inputs` counts the files of all readers."""
    own = round(inputs * target.share / sum(each.share for each in TARGETS))
    words = [
        sys.executable,
        "-m",
        "tests.fuzz",
        "--targets",
        target.name,
        "--inputs",
        str(own),
        "-o",
        str(tmp_path / "fuzz.json"),
    ]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "fuzz.json").read_text())
    assert found["inputs"] >= own and found["broken"] == 0


def crash(path: Path) -> None:
    if path.read_bytes()[:1] == b"5":
        ctypes.string_at(0)


def hang(path: Path) -> None:
    if path.read_bytes()[:1] == b"5":
        time.sleep(60)


def swallow(path: Path) -> None:
    """A header that is believed."""
    if path.read_bytes()[:1] == b"5":
        try:
            bytearray(2**40)
        except MemoryError as error:
            raise InputError(Fault(str(path), "the file cannot be read ()", "Copy it anew")) from error


def trip(path: Path) -> None:
    if path.read_bytes()[:1] == b"5":
        raise KeyError("shape")


def say_nothing(path: Path) -> None:
    if path.read_bytes()[:1] == b"5":
        raise InputError()


def refuse(path: Path) -> None:
    if path.read_bytes()[:1] == b"5":
        raise InputError(Fault(str(path), "it begins with 5", "Change that"))


@forking
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
def test_what_is_wrong_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: object, violation: str | None) -> None:
    monkeypatch.setattr(hunt, "PATIENCE", 0.5)
    (tmp_path / "files").mkdir()

    def digit(content: bytes, others: object, chance: random.Random) -> bytes:
        return b"%d" % chance.randrange(10)

    target = Target("digits", "x", lambda folder: [b""], digit, read)  # type: ignore[arg-type]
    findings = hunt.hunt(target, [b""], 30, 0, tmp_path / "files")
    fives = sum(hunt.make_input(target, [b""], 0, number) == b"5" for number in range(30))
    assert findings.inputs == 30 and findings.accepted == 30 - fives and fives > 0
    if violation is None:
        assert not findings.violations
    else:
        ((found, count),) = findings.violations.items()
        assert found.startswith(violation) and count == fives
        assert hunt.make_input(target, [b""], 0, findings.examples[found]) == b"5"


def test_mutations_depend_on_the_seed_alone() -> None:
    sound = [json.dumps({"a": [1, 2], "b": {"c": "text"}}).encode(), b'{"x": 0}']
    for mutate in (mutated, mutated_json):
        first, second, third = ([mutate(sound[0], sound, random.Random(seed + n)) for n in range(200)] for seed in (0, 0, 1000))
        assert first == second != third and len(set(first)) > 100


def test_mutated_json_is_mostly_json() -> None:
    sound = json.dumps({"a": [1, 2], "b": {"c": "text"}}).encode()
    valid = 0
    for seed in range(200):
        try:
            json.loads(mutated_json(sound, [sound], random.Random(seed)))
            valid += 1
        except (ValueError, RecursionError):
            continue
    assert 120 < valid < 200


@pytest.mark.slow
@pytest.mark.skipif(not guided.is_available(), reason="atheris is not installed")
def test_a_short_guided_run(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "tests.fuzz", "--guided", "NIfTI", "--minutes", "0.2", "-o", str(tmp_path / "fuzz.json")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads((tmp_path / "fuzz.json").read_text())["rows"]
    assert row["inputs"] > 100 and row["edges"] > 0 and row["kept"] > 0


def test_guided_changes_are_ours_or_theirs_and_always_some() -> None:
    plans = next(target for target in guided.GUIDED if target.name == "plan.json")
    for content in (b'{"a": 1}', b"{no json"):
        made = {guided._changed(plans, content, [b'{"a": 1}'], random.Random(seed), lambda data: b"theirs") for seed in range(60)}
        assert b"theirs" in made and len(made) > 10
    assert all(target.name != "NIfTI, compressed" for target in guided.GUIDED)
