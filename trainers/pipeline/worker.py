"""Train one fold of a schedule in a process of its own, which ends with the process that started it."""

import logging
import os
import subprocess
import sys
from pathlib import Path

from configs.errors import InputError
from configs.folders import DatasetFolder, RunRecords
from configs.progress import Progress
from preprocessing.parallel.markers import end_with
from trainers.interruption import TrainingInterruptedError
from trainers.pipeline.schedule import Schedule, Training
from trainers.pipeline.told_progress import ToldProgress
from trainers.run import train

AGAIN = "Run se_run again to go on."


def train_scheduled(
    folder: DatasetFolder, schedule: Schedule, training: Training, device: str | None, progress: Progress
) -> None:
    """Train a fold of a schedule, or go on with it, and validate it. The errors are those of `trainers.train`."""
    train(
        folder.path.name,
        folder.path.parent,
        training.network,
        training.configuration,
        training.fold,
        schedule.settings,
        resume=True,
        device=device,
        progress=progress,
        resume_hint=AGAIN,
    )


def start_worker(
    folder: DatasetFolder, schedule: Schedule, training: Training, device: str | None, threads: int | None
) -> "subprocess.Popen[str]":
    """Start a process that trains a fold with this number of threads; it writes progress and errors to its standard output."""
    position = schedule.trainings.index(training)
    words = [str(folder.path.resolve()), str(position), device or "", str(os.getpid())]
    environment = dict(os.environ) | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    # A session of its own: an interruption from the keyboard reaches it once, through this process.
    return subprocess.Popen(
        [sys.executable, "-m", "trainers.pipeline.worker", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    )


def main() -> int:
    """Train the fold that the arguments name, and return the exit code."""
    path, position, device, parent = sys.argv[1:]
    end_with(int(parent))
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    folder = DatasetFolder(Path(path))
    schedule = Schedule.read(RunRecords(folder.path).schedule)
    try:
        train_scheduled(folder, schedule, schedule.trainings[int(position)], device or None, ToldProgress(sys.stdout))
    except TrainingInterruptedError as interruption:
        return 128 + interruption.signal_number
    except InputError as error:
        logging.error("%s", "; ".join(map(str, error.faults)))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
