"""Inject faults into running commands, and check what a user finds afterwards.

    python -m tests.faults                        # all faults, about 500: an hour of one core
    python -m tests.faults --share 0.1            # a tenth of them, but at least one of each kind for each command
    python -m tests.faults --commands train predict --kinds kill
    python -m tests.faults --continue --minutes 4 # as many as possible of those that the output file does not hold yet

Each fault is injected into a run of its own. The process is killed at a random moment, or just before it opens, renames or deletes a
file. The disk is full, read-only from the start, or becomes read-only. The input disappears. File operations fail with an error of the
system. The disk is slow, memory is short, a worker process is killed, a signal arrives, or the wall clock jumps.

The command must then end in bounded time, with a fitting exit code and a message, without a traceback, and must leave no processes
behind. Every file under its final name must be whole. The fault is removed and the command runs again: it must succeed, and its results
must equal those of an undisturbed run to the bit. The exit code is 1 if any of these requirements does not hold.

The program needs Linux. If it may mount file systems (as root), the disks are file systems in memory; otherwise a limit on file sizes
and permissions replace them.
"""

import argparse
import errno
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.common.tables import text_table
from configs.files import read_json, write_json

if __name__ == "__main__":
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # a forked process must not inherit a pool of threads

from tests.faults.commands import COMMANDS, Command, import_everything
from tests.faults.disk import can_mount
from tests.faults.injection import KINDS, Injection
from tests.faults.trial import Bench, Outcome, new_folder

_EVERYWHERE = {
    "kill": 6,
    "kill at a file event": 10,
    "disk full": 6,
    "read-only": 1,
    "becomes read-only": 4,
    "input vanishes": 3,
    "I/O error": 6,
    "I/O errors from then on": 3,
    "memory limit": 4,
    "slow disk": 1,
    "clock jump": 1,
    "time stamps": 1,
    "signal": 4,
}
_WITH_WORKERS = {"kill": 4, "worker killed": 5}
_NUMBERS = {
    "I/O error": (errno.EIO, errno.ESTALE, errno.EMFILE, errno.EACCES, errno.ENOSPC, errno.EDQUOT),
    "I/O errors from then on": (errno.EIO, errno.ENOSPC),
    "signal": (signal.SIGTERM, signal.SIGINT),
    "clock jump": (-86400, 86400),
    "time stamps": (-10 * 365 * 86400, 10 * 365 * 86400),
}
_COLUMNS = {"command": "{}", "kind": "{}", "faults": "{}", "ended_with": "{}", "violations": "{}"}


def main() -> int:
    """Inject the faults, print a table and write a JSON file. Returns 1 if a requirement did not hold, and otherwise 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--commands", nargs="+", choices=[command.name for command in COMMANDS], help="commands to run; default: all"
    )
    parser.add_argument("--kinds", nargs="+", choices=KINDS, help="kinds of faults; default: all")
    parser.add_argument("--share", type=float, default=1.0, help="share of the faults, from 0 to 1; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments; default: %(default)s")
    parser.add_argument(
        "--continue", dest="goes_on", action="store_true", help="keep the faults that the output file holds, and add the others"
    )
    parser.add_argument("--minutes", type=float, default=1e9, help="number of minutes after which no further fault is injected")
    parser.add_argument("-o", "--output", type=Path, default=Path("faults.json"), help="output file; default: %(default)s")
    arguments = parser.parse_args()
    import_everything()
    kept: dict[str, Any] = (
        read_json(arguments.output) if arguments.goes_on and arguments.output.is_file() else {"seconds": 0.0, "outcomes": []}
    )
    outcomes = [Outcome.from_json(outcome) for outcome in kept["outcomes"]]
    start, mounts = time.monotonic(), False
    with new_folder() as folder:
        mounts = can_mount(folder)
        for command, faults in _left(arguments, mounts, outcomes).items():
            bench = None
            for fault in faults:
                if time.monotonic() - start < 60 * arguments.minutes:
                    bench = bench or Bench(command, folder / command.name.replace(" ", "_"), mounts)
                    outcomes.append(bench.meet(fault))
                    _tell(outcomes[-1])
    rows = summarise(outcomes)
    print(text_table(rows, _COLUMNS))
    broken = sum(bool(outcome.violations) for outcome in outcomes)
    seconds = kept["seconds"] + time.monotonic() - start
    left = sum(map(len, _left(arguments, mounts, outcomes).values()))
    print(f"{len(outcomes)} faults injected, {broken} of them broke a requirement, in {seconds:.0f} s; {left} are left")
    found = {
        "faults": len(outcomes),
        "broken": broken,
        "left": left,
        "seconds": seconds,
        "mounts": mounts,
        "seed": arguments.seed,
    }
    write_json(arguments.output, found | {"rows": rows, "outcomes": [outcome.as_json() for outcome in outcomes]})
    return int(broken > 0)


def _left(arguments: argparse.Namespace, mounts: bool, outcomes: list[Outcome]) -> dict[Command, list[Injection]]:
    """Return the requested faults that have not been injected yet, by command."""
    met = {(outcome.command, outcome.kind, outcome.moment, outcome.number) for outcome in outcomes}
    wanted = [command for command in COMMANDS if not arguments.commands or command.name in arguments.commands]
    return {
        command: [
            fault
            for fault in choose_faults(command, mounts, arguments.share, arguments.seed)
            if (not arguments.kinds or fault.kind in arguments.kinds)
            and (command.name, fault.kind, fault.moment, fault.number) not in met
        ]
        for command in wanted
    }


def choose_faults(command: Command, mounts: bool, share: float, seed: int) -> list[Injection]:
    """Return the faults of a command: each kind with its number of faults, at random moments. Equal seeds give equal faults."""
    chance = random.Random(f"{seed} {command.name}")
    faults = []
    wanted = _WITH_WORKERS if command.workers else _EVERYWHERE
    for kind, count in wanted.items():
        used = "file size limit" if kind == "disk full" and not mounts else kind
        numbers = _NUMBERS.get(kind, (0,))
        for index in range(max(1, round(share * command.share * count))):
            faults.append(Injection(used, round(chance.random(), 6), int(numbers[index % len(numbers)])))
    return faults


def summarise(outcomes: list[Outcome]) -> list[dict[str, Any]]:
    """Return one row of the table for each command and kind of fault."""
    rows = []
    for command, kind in dict.fromkeys((outcome.command, outcome.kind) for outcome in outcomes):
        here = [outcome for outcome in outcomes if (outcome.command, outcome.kind) == (command, kind)]
        codes = Counter(str(outcome.code) for outcome in here)
        ended = ", ".join(f"{code} ({count}x)" for code, count in sorted(codes.items()))
        broken = sum(bool(outcome.violations) for outcome in here)
        rows.append({"command": command, "kind": kind, "faults": len(here), "ended_with": ended, "violations": broken})
    return rows


def _tell(outcome: Outcome) -> None:
    line = (
        f"{outcome.command}: {outcome.kind} at {outcome.moment:.3f} ({outcome.number}): {outcome.code}, {outcome.seconds:.1f} s"
    )
    print(f"{line}: {outcome.message[:160]}", file=sys.stderr, flush=True)
    for violation in outcome.violations:
        print(f"    !! {violation}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
