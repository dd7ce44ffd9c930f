"""Compare networks and recipes over long trainings. A queue runs two trainings at a time, and continues after a kill or elsewhere.

    python -m benchmarks.length.comparison run      # run the unfinished trainings of the queue; after Ctrl-C, call it again to continue
    python -m benchmarks.length.comparison status   # show which trainings are finished, and the progress of the others
    python -m benchmarks.length.comparison pause    # pause all trainings until `resume`; the file ../long.pause has the same effect
    python -m benchmarks.length.comparison resume
    python -m benchmarks.length.comparison tables   # write docs/measurements/evidence; `--final` includes the test cases
    python -m benchmarks.length.comparison one NETWORK SIZE SEED [RECIPE]       # run a single training to its end

Trainings should run in a copy of the tree that nobody changes: `git worktree add ../runs COMMIT`. The committed tables show which trainings
are finished. An unfinished training continues from its checkpoint if the work folder still exists; otherwise it starts again.
"""

import argparse
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common.tables import text_table
from benchmarks.length.runs import NETWORKS, PEER, PLANNED, RECIPES, STEPS, Place, Run, perform, prepare
from benchmarks.length.scores import Record
from benchmarks.length.tables import CASE, COLUMNS, FINAL_COLUMNS, POINT, collect, draw, is_finished, read_rows, summary
from benchmarks.nnunet.nnunet_peer import threads_environment

OWN = "own"  # nnU-Net's recipe
POINTS, CASES, FIGURE = (
    Path("docs/measurements/evidence") / name for name in ("long_training.csv", "long_training_cases.csv", "long_training.svg")
)
SIDE_BY_SIDE, POLL_SECONDS, ATTEMPTS = 2, 5, 2

# In this order. Few cases and all of them with one seed, then further seeds, then remedies.
QUEUE = (
    *(Run(network, 10, 0) for network in ("se", "baseline", "mixed", "plain")),
    Run(PEER, 10, 0, OWN),
    *(Run(network, 112, 0) for network in ("se", "baseline", "mixed")),
    *(
        run
        for seed in (1, 2)
        for run in (*(Run(name, 10, seed) for name in ("se", "baseline", "mixed")), Run(PEER, 10, seed, OWN))
    ),
    *(Run(network, 10, 0) for network in ("se_tensor", "mixed_two_widths", "se_narrow", "mixed_decoder", "se_decoder")),
    *(Run(network, 10, 0, recipe) for recipe in ("no_mirror", "often", "cosine", "decay") for network in ("se", "baseline")),
    Run("se", 10, 0, "smooth_first"),
    *(Run(network, 10, 0, recipe) for recipe in ("slower", "sgd") for network in ("se", "baseline")),
    *(Run(network, 112, 0) for network in ("plain",)),
    Run(PEER, 112, 0, OWN),
)


def main() -> int:
    """Run the command. Returns the exit code."""
    given = _parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    place = Place(given.dataset, given.work, given.peer)
    if given.command == "one":
        perform(Run(given.network, given.size, given.seed, given.recipe, given.steps), place)
    elif given.command == "run":
        prepare(place)
        Queue(place, given.pause_file).run(QUEUE, read_rows(POINTS, POINT))
    elif given.command == "status":
        print(status(Queue(place, given.pause_file), read_rows(POINTS, POINT)))
    elif given.command == "tables":
        _tables(place, given.final)
    else:
        given.pause_file.touch() if given.command == "pause" else given.pause_file.unlink(missing_ok=True)
        Queue(place, given.pause_file).follow_pause()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--dataset", type=Path, default=Path("../shared/data/Dataset004_Hippocampus"), help="folder of the raw dataset"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("../long_work"), help="folder of the trainings, which later runs continue"
    )
    parser.add_argument(
        "--peer", type=Path, default=Path("../peer/bin/python"), help=f"path to the Python of an environment with {PEER}"
    )
    parser.add_argument(
        "--pause-file", type=Path, default=Path("../long.pause"), help="file whose existence pauses all trainings"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("run", "status", "pause", "resume"):
        commands.add_parser(name)
    commands.add_parser("tables").add_argument("--final", action="store_true", help="include the test cases, for the last table")
    one = commands.add_parser("one")
    one.add_argument("network", choices=(*NETWORKS, PEER))
    one.add_argument("size", type=int)
    one.add_argument("seed", type=int)
    one.add_argument("recipe", nargs="?", choices=(*RECIPES, OWN), default=PLANNED)
    one.add_argument("--steps", type=int, default=STEPS)
    return parser


@dataclass
class Queue:
    """Trainings in separate processes, each the leader of a process group. They outlive this program, and the next one finds them.

    Attributes:
        place: folder of the runs.
        pause_file: file that pauses all trainings as long as it exists.
        attempts: number of times that this program started each run.
        children: last process that this program started for each run.
    """

    place: Place
    pause_file: Path
    attempts: dict[Run, int] = field(default_factory=dict)
    children: dict[Run, subprocess.Popen[bytes]] = field(default_factory=dict)

    def run(self, queue: tuple[Run, ...], committed: list[dict[str, Any]]) -> None:
        """Run all unfinished trainings. On SIGINT and SIGTERM, ask them to save and stop."""
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        left = [run for run in queue if not is_finished(committed, run)]
        try:
            while left := [run for run in left if not self.is_done(run)]:
                self.follow_pause()
                for run in left:
                    if not self.pause_file.exists() and len(self.running()) < SIDE_BY_SIDE and run not in self.running():
                        self.start(run)
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            self.signal(signal.SIGCONT, signal.SIGTERM)

    def is_done(self, run: Run) -> bool:
        """Return whether a run is finished or was given up."""
        if "finished" in Record.open(self.place.record(run)).content:
            return True
        return self.attempts.get(run, 0) >= ATTEMPTS and run not in self.running()

    def start(self, run: Run) -> None:
        """Start a run, with one thread and at the lowest priority."""
        self.attempts[run] = self.attempts.get(run, 0) + 1
        file, log = self._file(run), self.place.work / "logs" / f"{run.name}.log"
        for folder in (file.parent, log.parent):
            folder.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as output:
            self.children[run] = process = subprocess.Popen(
                ["nice", "-n", "19", *self._words(run)], env=os.environ | threads_environment(1), stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        yield_to_others(process.pid)
        file.write_text(f"{process.pid} {beginning(process.pid)}", encoding="utf-8")

    def running(self) -> dict[Run, int]:
        """Return the running trainings with the number of their process and group."""
        for child in self.children.values():
            child.poll()  # one that has ended would else keep its number
        files = {run: self._file(run) for run in QUEUE}
        numbers = {run: file.read_text(encoding="utf-8").split() for run, file in files.items() if file.is_file()}
        return {run: int(number) for run, (number, begun) in numbers.items() if beginning(int(number)) == begun}

    def follow_pause(self) -> None:
        """Pause all trainings while the file exists."""
        self.signal(signal.SIGSTOP if self.pause_file.exists() else signal.SIGCONT)

    def signal(self, *signals: signal.Signals) -> None:
        """Send signals to the process groups of all running trainings."""
        for process in self.running().values():
            for one in signals:
                os.killpg(process, one)

    def _words(self, run: Run) -> list[str]:
        place = self.place
        words = [
            sys.executable,
            "-m",
            "benchmarks.length.comparison",
            "--dataset",
            str(place.dataset),
            "--work",
            str(place.work),
        ]
        words += ["--peer", str(place.peer), "one", run.network, str(run.size), str(run.seed), run.recipe]
        return [*words, "--steps", str(run.steps)]

    def _file(self, run: Run) -> Path:
        return self.place.work / "running" / run.name


def yield_to_others(process: int) -> None:
    """Give the session of a process the lowest priority where Linux shares processors among sessions, as `nice` counts within one alone."""
    group = Path(f"/proc/{process}/autogroup")
    if group.is_file():
        group.write_text("19", encoding="utf-8")


def beginning(process: int) -> str | None:
    """Return when a process began, in ticks since the start of the machine, or None where it has ended.

    Two processes with the same number differ in it, while a process keeps it when `nice` hands over to the program that it starts,
    a moment at which the process has no command line.
    """
    try:
        state, *values = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return None if state == "Z" else values[18]


def status(queue: Queue, committed: list[dict[str, Any]]) -> str:
    """Return one line for each run of the queue."""
    rows: list[dict[str, Any]] = []
    running = queue.running()
    for run in QUEUE:
        content = Record.open(queue.place.record(run)).content
        curve = content.get("curve", [])
        finished = "finished" in content or is_finished(committed, run)
        state = "finished" if finished else "paused" if run in running and queue.pause_file.exists() else "running"
        rows.append({"run": run.name, "state": state if finished or run in running else "begun" if curve else ""})
        if curve:
            dice: dict[str, Any] = next((point for point in reversed(curve) if "dice_raw" in point), {})
            rows[-1] |= {"step": curve[-1]["step"], "raw": dice.get("dice_raw"), "averaged": dice.get("dice_averaged")}
    return text_table(rows, {"run": "{}", "state": "{}", "step": "{:,d}", "raw": "{:.4f}", "averaged": "{:.4f}"})


def _tables(place: Place, final: bool) -> None:
    collect(QUEUE, place, POINTS, CASES)
    points, cases = read_rows(POINTS, POINT), read_rows(CASES, CASE)
    print(text_table(summary(points, cases, final), COLUMNS | (FINAL_COLUMNS if final else {})))
    draw(points, FIGURE)


if __name__ == "__main__":
    sys.exit(main())
