"""Train the folds of a schedule: in turn in this process, side by side on several devices, or on a cluster."""

import logging
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager
from queue import SimpleQueue
from types import FrameType
from typing import Any

import joblib

from configs.errors import InputError
from configs.folders import DatasetFolder
from configs.progress import Progress
from preprocessing.dataset.splits import read_splits
from preprocessing.parallel.for_each_case import for_each_case
from trainers.interruption import TrainingInterruptedError
from trainers.monitoring.forecast import Speed
from trainers.pipeline.schedule import Schedule, Training, stages
from trainers.pipeline.told_progress import messages_of
from trainers.pipeline.whole_progress import TrainingProgress, WholeProgress, seconds_of_items, whole_progress
from trainers.pipeline.worker import AGAIN, start_worker, train_scheduled

_logger = logging.getLogger(__name__)
_TITLE = "Training folds"
_LAST_LINES = 3  # of a failed process, in the message
Failures = dict[str, str]  # reason why a training failed, by its name
Speeds = Mapping[tuple[str, str], Speed]  # speed of each model, by configuration and network


def train_in_turn(folder: DatasetFolder, schedule: Schedule, speeds: Speeds, device: str | None, progress: Progress) -> Failures:
    """Train the folds one after the other. A fold that fails does not stop the others.

    Raises:
        TrainingInterruptedError: a signal was received; the training was saved.
    """
    failures: Failures = {}
    with whole_progress(progress, schedule.trainings) as whole:
        for training in schedule.trainings:
            with _shown(whole, folder, schedule, training, speeds) as shown:
                try:
                    train_scheduled(folder, schedule, training, device, shown)
                except TrainingInterruptedError:
                    raise
                except Exception as error:  # noqa: BLE001 - one fold must not stop the others; all reasons are reported
                    _add_failure(failures, training, _reason(error))
    return failures


def train_on_devices(
    folder: DatasetFolder, schedule: Schedule, speeds: Speeds, devices: Sequence[str], progress: Progress
) -> Failures:
    """Train folds side by side, each in a process on a free device. A fold that fails does not stop the others.

    Raises:
        TrainingInterruptedError: a signal was received; the trainings were saved.
    """
    free: SimpleQueue[str] = SimpleQueue()
    for device in devices:
        free.put(device)
    threads = threads_of_each(devices)
    failures: Failures = {}
    with _Workers() as workers, whole_progress(progress, schedule.trainings) as whole, ThreadPoolExecutor(len(devices)) as pool:

        def on_free_device(training: Training) -> str | None:
            device = free.get()
            try:
                with _shown(whole, folder, schedule, training, speeds) as shown:
                    return workers.train(folder, schedule, training, device, threads, shown)
            finally:
                free.put(device)

        for stage in stages(schedule.trainings):
            futures = {pool.submit(on_free_device, training): training for training in stage}
            for future in as_completed(futures):
                if (reason := future.result()) is not None:
                    _add_failure(failures, futures[future], reason)
    return failures


def _shown(
    whole: WholeProgress, folder: DatasetFolder, schedule: Schedule, training: Training, speeds: Speeds
) -> AbstractContextManager[TrainingProgress]:
    speed = speeds.get((training.configuration, training.network))
    return whole.training(training, seconds_of_items(speed, schedule.settings, _validation_cases(folder, training)))


def threads_of_each(devices: Sequence[str]) -> int:
    """Return the number of threads of each training, if there is one on each device."""
    return max(1, int(joblib.cpu_count()) // max(1, len(devices)))


def train_on_cluster(folder: DatasetFolder, schedule: Schedule, scheduler: str, progress: Progress) -> Failures:
    """Train folds on the workers of a Dask scheduler, which see the dataset's folder under the same path."""
    shared = DatasetFolder(folder.path.resolve())
    failures: Failures = {}
    for stage in stages(schedule.trainings):
        tasks = {str(training): (shared, schedule, training) for training in stage}
        for name, reason in for_each_case(_train_on_worker, tasks, 1, progress, _TITLE, scheduler):
            if reason is not None:
                _add_failure(failures, name, reason)
    return failures


def _train_on_worker(name: str, task: tuple[DatasetFolder, Schedule, Training]) -> str | None:
    folder, schedule, training = task
    with _Workers() as workers:
        return workers.train(folder, schedule, training, None, None, None)


def _reason(error: Exception) -> str:
    return "; ".join(map(str, error.faults)) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"


def _add_failure(failures: Failures, training: Training | str, reason: str) -> None:
    _logger.error("%s failed: %s", training, reason)
    failures[str(training)] = reason


class _Workers:
    """Processes that train. A signal to this process is passed on to them, and raised here after they have saved their state."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "_Workers":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *raised: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._received is not None:
            name = signal.Signals(self._received).name
            raise TrainingInterruptedError(f"{name} received: the trainings were saved and stopped. {AGAIN}", self._received)

    def train(
        self,
        folder: DatasetFolder,
        schedule: Schedule,
        training: Training,
        device: str | None,
        threads: int | None,
        progress: TrainingProgress | None,
    ) -> str | None:
        """Train a fold, and return the last lines of its messages if it failed. An interruption is no failure of a fold."""
        if self._received is not None:
            return None
        with start_worker(folder, schedule, training, device, threads) as process:
            self._running.add(process)
            if self._received is not None:  # between the start and now
                process.send_signal(self._received)
            lines = messages_of(process.stdout or (), progress)
            process.wait()
            self._running.discard(process)
        if process.returncode == 0 or self._received is not None:
            return None
        return "; ".join(lines[-_LAST_LINES:]) or f"exit code {process.returncode}"

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._received = self._received or number
        for process in tuple(self._running):
            process.send_signal(number)


def is_done(folder: DatasetFolder, training: Training) -> bool:
    """Return whether a fold is trained and, if it has validation cases, validated."""
    fold = folder.model(training.configuration, training.network).fold(training.fold)
    return fold.final_weights.is_file() and (fold.validation.metrics.is_file() or not _validation_cases(folder, training))


def _validation_cases(folder: DatasetFolder, training: Training) -> int:
    """Return the number of validation cases of a fold; fold `all` validates every case."""
    splits = read_splits(folder.splits) if folder.splits.is_file() else []
    if isinstance(training.fold, int) and splits:
        return len(splits[training.fold].validation)
    return sum(len(split.validation) for split in splits) or 1
