"""Faults injected into running commands, and what a user finds afterwards.

    python -m tests.faults                        # about 400 faults, some ten minutes of one core
    python -m tests.faults --share 0.1            # every tenth of them
    python -m tests.faults --commands train predict --kinds kill
    python -m tests.faults --continue --minutes 4 # those that are not in the JSON yet, as many as fit

Each fault meets a command of its own, in a process that can be ended at any point: killed at a random moment or just before a file is
opened, renamed or deleted; a disk that is full, read-only from the start or from some moment on; an input that vanishes; errors
of the system at any file operation; a slow disk; too little memory; a killed worker process; signals; a wall clock that jumps.
Afterwards: did it end in bounded time, with an exit code that fits and a message, without a traceback, and without processes left
behind? Is every file under its final name whole? Then the fault is taken away and the command is run again: it must end well, and
its results must be those of a run that nothing disturbed, to the bit. Exit code 1 where anything of this does not hold.

Linux alone. Where file systems can be mounted (as root), disks are real ones in memory; elsewhere a limit on the size of files and
permissions stand in for them.
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
    """Inject the faults, print one table, write one JSON. Returns 1 where something did not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", nargs="+", choices=[command.name for command in COMMANDS], help="default: all")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, help="default: all")
    parser.add_argument("--share", type=float, default=1.0, help="of the faults; default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--continue", dest="goes_on", action="store_true", help="keep what the output holds and add to it")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no fault after so many")
    parser.add_argument("-o", "--output", type=Path, default=Path("faults.json"))
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
    print(f"{len(outcomes)} faults injected, {broken} with something that does not hold, in {seconds:.0f} s; {left} are left")
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
    """The faults that were asked for and have not been met."""
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
    """The faults of one command, the same for the same seed: kinds as often as they are listed, at random moments."""
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
    """One row for each command and kind."""
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
