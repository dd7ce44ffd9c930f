"""Mutated files for everything that reads one: images, descriptions, plans, splits, bundles, weights, checkpoints.

    python -m tests.fuzz                       # 120,000 inputs, about ten minutes of one core (`make fuzz`)
    python -m tests.fuzz --inputs 2000         # a short run
    python -m tests.fuzz --targets NRRD bundle --seed 7
    python -m tests.fuzz --guided NIfTI MetaImage --minutes 3   # guided by coverage, three minutes each; needs atheris

The inputs are made from a small corpus of sound files by seeded mutations: bits, bytes, numbers of any size, words of text headers,
JSON values and structure, what lies inside a compressed file or a bundle (whose checksums are made to fit). The same seed and number
give the same input. What must hold for each: the interpreter does not crash; no file takes more than 20 seconds or 512 MiB (files have
some hundred to some thousand bytes); it is read, or refused by an `InputError` that says where and what. Exit code 1 otherwise.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.common.tables import text_table
from configs.files import write_json
from tests.faults.commands import import_everything
from tests.fuzz.guided import GUIDED, hunt_guided, is_available
from tests.fuzz.hunt import Findings, hunt, make_corpus, make_input
from tests.fuzz.targets import TARGETS, Target

_COLUMNS = {"reader": "{}", "inputs": "{}", "accepted": "{}", "kilobytes": "{:.0f}", "seconds": "{:.1f}", "violations": "{}"}


def main() -> int:
    """Read the inputs, print one table, write one JSON. Returns 1 where something did not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="+", choices=[target.name for target in TARGETS], help="default: all")
    parser.add_argument("--inputs", type=int, default=120_000, help="of all targets together; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--examples", type=Path, help="folder for the files that showed something")
    parser.add_argument("-o", "--output", type=Path, default=Path("fuzz.json"))
    parser.add_argument(
        "--guided", nargs="+", choices=[target.name for target in GUIDED], help="instead: these, guided by coverage"
    )
    parser.add_argument("--minutes", type=float, default=3, help="of each that is guided; default: %(default)s")
    arguments = parser.parse_args()
    if arguments.guided:
        return _guided(arguments)
    chosen = [target for target in TARGETS if not arguments.targets or target.name in arguments.targets]
    share = arguments.inputs / sum(target.share for target in chosen)
    import_everything()
    rows, violations = [], dict[str, dict[str, int]]()
    for target in chosen:
        start = time.monotonic()
        findings = fuzz(target, max(1, round(share * target.share)), arguments.seed, arguments.examples)
        rows.append(_row(target, findings, time.monotonic() - start))
        print(rows[-1], file=sys.stderr, flush=True)
        if findings.violations:
            violations[target.name] = dict(findings.violations)
            _tell(findings)
    print(text_table(rows, _COLUMNS))
    total, broken = sum(row["inputs"] for row in rows), sum(row["violations"] for row in rows)
    print(f"{total} inputs, {broken} with something that does not hold")
    found = {"inputs": total, "broken": broken, "seed": arguments.seed, "violations": violations, "rows": rows}
    write_json(arguments.output, found)
    return int(broken > 0)


def fuzz(target: Target, inputs: int, seed: int, examples: Path | None = None) -> Findings:
    """The inputs of one target."""
    with _folder() as base:
        corpus = make_corpus(target, base / "corpus")
        (base / "files").mkdir()
        findings = hunt(target, corpus, inputs, seed, base / "files")
        if examples is not None:
            for index, number in enumerate(findings.examples.values()):
                folder = examples / f"{target.name}_{index}"
                folder.mkdir(parents=True, exist_ok=True)
                (folder / target.file).write_bytes(make_input(target, corpus, seed, max(0, number)))
        return findings


def _guided(arguments: argparse.Namespace) -> int:
    """The guided engine on some targets."""
    if not is_available():
        print("guided fuzzing needs atheris: python -m pip install atheris", file=sys.stderr)
        return 2
    rows, violations = [], dict[str, dict[str, int]]()
    for target in (target for target in GUIDED if target.name in arguments.guided):
        with _folder() as base:
            start = time.monotonic()
            findings, reached = hunt_guided(target, 60 * arguments.minutes, arguments.seed, base)
            rows.append(_row(target, findings, time.monotonic() - start) | reached)
            print(rows[-1], file=sys.stderr, flush=True)
            if findings.violations:
                violations[target.name] = dict(findings.violations)
                _tell(findings)
                if arguments.examples is not None:
                    shutil.copytree(base / "crashes", arguments.examples / target.name, dirs_exist_ok=True)
    print(text_table(rows, _COLUMNS | {"edges": "{}", "features": "{}", "kept": "{}"}))
    write_json(arguments.output, {"seed": arguments.seed, "violations": violations, "rows": rows})
    return int(bool(violations))


@contextmanager
def _folder() -> Iterator[Path]:
    """In memory where there is such a one."""
    memory = Path("/dev/shm")
    base = Path(tempfile.mkdtemp(prefix="se-unet-fuzz-", dir=memory if memory.is_dir() else None))
    try:
        yield base
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _row(target: Target, findings: Findings, seconds: float) -> dict[str, Any]:
    return {
        "reader": target.name,
        "inputs": findings.inputs,
        "accepted": findings.accepted,
        "kilobytes": findings.bytes / 1000,
        "seconds": seconds,
        "violations": findings.violations.total(),
    }


def _tell(findings: Findings) -> None:
    for violation, count in findings.violations.items():
        print(f"    !! {count} x {violation} (input {findings.examples[violation]})", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
