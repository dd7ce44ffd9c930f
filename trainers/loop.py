"""Training loop: epochs of steps, an estimate on validation patches, and a checkpoint after each epoch."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from configs.progress import Progress
from inference.device import peak_memory
from se_unet.weights import save_weights
from trainers.data.batches import Batch, BatchSchedule, LoadingError
from trainers.data.loading import BatchStream
from trainers.interruption import StopRequest
from trainers.job import Job
from trainers.monitoring.history import EpochRecord, History
from trainers.monitoring.loggers import Logger
from trainers.monitoring.progress_note import ProgressNote
from trainers.monitoring.pseudo_dice import PseudoDice, mean_of_defined
from trainers.optimisation.checkpoint import Learner, TrainingState
from trainers.optimisation.distributed import any_has, mean_of, rank, wait_for_all
from trainers.optimisation.optimiser import learning_rate, set_learning_rate
from trainers.optimisation.step import TrainingStep
from trainers.optimisation.time_limit import is_complete, left_of, share_of_time

logger = logging.getLogger(__name__)

EMA_DECAY = 0.9
MOST_SKIPPED = 5  # consecutive steps, after which the training stops
_PICTURE_SECONDS = 60  # between figures, which would slow down short epochs


class NotFiniteError(RuntimeError):
    """Loss or gradients were not finite in several consecutive steps."""


@dataclass(frozen=True)
class Parts:
    """Parts of a training, built in advance and called by the loop.

    Attributes:
        job: settings, labels, device and output folders.
        learner: network to validate and save, optimiser, and keeper of checkpoints.
        step: function that takes a training step.
        loss: loss on validation patches.
        stream: batches in the order of `schedule`, starting at the state's step.
        schedule: order of batches, and which epochs validate.
        loggers: loggers of each epoch's numbers.
        check_volumes: function that returns the mean foreground Dice of whole validation volumes; None disables it.
        stop: receiver of signals.
        progress: progress display over the steps.
    """

    job: Job
    learner: Learner
    step: TrainingStep
    loss: nn.Module
    stream: BatchStream
    schedule: BatchSchedule
    loggers: Sequence[Logger]
    check_volumes: Callable[[], float] | None
    stop: StopRequest
    progress: Progress


class Trainer:
    """Runs a training from its state to the end.

    Args:
        parts: parts of the training.
        state: progress of the training.
    """

    def __init__(self, parts: Parts, state: TrainingState):
        self._parts = parts
        self._state = state
        self._history = History(state.rows)
        self._note = ProgressNote(parts.job.config.steps)
        self._skipped: list[Batch] = []
        self._pictured = -math.inf

    def run(self) -> None:
        """Train the remaining epochs.

        Raises:
            TrainingInterruptedError: a signal was received; the checkpoint includes the current step.
            NotFiniteError: the loss was not finite in several consecutive steps.
            LoadingError: a batch cannot be made.
        """
        config = self._parts.job.config
        if is_complete(config, self._history.rows):
            self._show(is_last=True)  # the process was killed between its last checkpoint and this
        while not is_complete(config, self._history.rows):
            record = self._run_epoch()
            logger.info(record.summary(config.epochs))
            self._history.append(record)
            self._state.rows = self._history.rows
            self._state.epoch += 1
            self._state.losses = []
            self._parts.learner.keeper.save(self._state)
            self._show(is_last=is_complete(config, self._history.rows))
            for numbers in self._parts.loggers:
                numbers.log(self._history.rows[-1])

    def _run_epoch(self) -> EpochRecord:
        start = time.perf_counter()
        waited = self._train()
        training_seconds = time.perf_counter() - start
        losses = [loss for loss in self._state.losses if math.isfinite(loss)]
        validates = self._parts.schedule.validates(self._state.epoch)
        names = self._parts.job.plan.dataset.foreground
        validation_loss, dice = self._validate() if validates else (math.nan, [math.nan] * len(names))
        mean = self._average(dict(zip(names, dice, strict=True)))
        volumes = self._check_volumes()
        self._keep_best(volumes)
        self._note.pause()
        return EpochRecord(
            epoch=self._state.epoch + 1,
            learning_rate=self._parts.learner.optimiser.param_groups[0]["lr"],
            training_loss=sum(losses) / len(losses) if losses else math.nan,
            validation_loss=validation_loss,
            pseudo_dice=dict(zip(names, dice, strict=True)),
            mean_pseudo_dice=mean,
            ema_pseudo_dice=math.nan if self._state.ema is None else self._state.ema,
            volume_dice=volumes,
            skipped_steps=len(self._state.losses) - len(losses),
            seconds=self._common(time.perf_counter() - start),
            data_wait_share=waited / training_seconds,
            peak_memory=peak_memory(self._parts.job.device) or math.nan,
        )

    def _common(self, seconds: float) -> float:
        """Return a duration on which all processes agree if it decides when the training ends."""
        if self._parts.job.config.time_limit is None:
            return seconds
        return float(mean_of(torch.tensor(seconds, dtype=torch.float64, device=self._parts.job.device)))

    def _train(self) -> float:
        """Take the remaining steps of the epoch, and return the seconds spent waiting for data."""
        parts, state = self._parts, self._state
        start, waited = time.perf_counter(), parts.stream.waited
        left = range(len(state.losses), parts.job.config.iterations)
        description = f"epoch {state.epoch + 1}/{parts.job.config.epochs}"
        for iteration in parts.progress.track(left, description, len(left)):
            self._stop_if_asked()
            step = state.epoch * parts.job.config.iterations + iteration
            passed = share_of_time(parts.job.config, self._history.rows, iteration)
            rate = learning_rate(parts.job.config, step, passed)
            set_learning_rate(parts.learner.optimiser, rate)
            state.losses.append(self._step(self._next_batch()))
            waiting = (parts.stream.waited - waited) / (time.perf_counter() - start)
            parts.progress.note(
                self._note.text(step + 1, state.losses[-1], rate, waiting, state.class_ema, left_of(parts.job.config, passed))
            )
        self._stop_if_asked()
        return parts.stream.waited - waited

    def _step(self, batch: Batch) -> float:
        """Take a step, and return its loss, or NaN if it was skipped."""
        value = self._parts.step(*batch.to(self._parts.job.device))
        if math.isfinite(value):
            self._skipped.clear()
            return value
        self._skipped.append(batch)
        cases = ", ".join(dict.fromkeys(case for skipped in self._skipped for case in skipped.cases))
        logger.warning("skipped a step whose loss or gradients are not finite (nan or inf), cases %s", ", ".join(batch.cases))
        if len(self._skipped) >= MOST_SKIPPED:
            raise NotFiniteError(
                f"loss or gradients were not finite in {MOST_SKIPPED} consecutive steps (cases {cases}). The checkpoint of the last "
                "epoch is intact. Check these cases, or train again with a lower learning rate"
            )
        return value

    def _validate(self) -> tuple[float, list[float]]:
        """Return the mean loss, and the Dice of each label, on validation patches."""
        parts = self._parts
        parts.learner.kept.eval()
        dice = PseudoDice(parts.job.plan.dataset, parts.job.device)
        losses = torch.zeros((), device=parts.job.device)
        with torch.no_grad():
            for _ in range(parts.schedule.validation_iterations):
                self._stop_if_asked()
                images, labels = self._next_batch().to(parts.job.device)
                with parts.learner.precision.context():
                    logits = parts.learner.kept(images)
                losses += parts.loss(logits, labels)
                dice.add(logits, labels)
        return float(mean_of(losses)) / parts.schedule.validation_iterations, dice.values()

    def _average(self, dice: dict[str, float]) -> float:
        """Update the moving averages with the labels' Dice, and return its mean."""
        state, mean = self._state, mean_of_defined(list(dice.values()))
        for label, value in dice.items():
            if not math.isnan(value):
                state.class_ema[label] = _ema(state.class_ema.get(label), value)
        if not math.isnan(mean):
            state.ema = _ema(state.ema, mean)
        return mean

    def _check_volumes(self) -> float:
        """Return the Dice of whole volumes; NaN in epochs without this check."""
        parts, done = self._parts, self._state.epoch + 1
        if parts.check_volumes is None or (done % parts.job.config.volumes_every and done != parts.job.config.epochs):
            return math.nan
        dice = parts.check_volumes() if rank() == 0 else math.nan
        wait_for_all()
        return dice

    def _keep_best(self, volumes: float) -> None:
        """Save the weights if Dice is the highest so far: that of whole volumes if checked, else the moving average on patches."""
        state, parts = self._state, self._parts
        value = state.ema if parts.check_volumes is None else volumes
        if value is not None and not math.isnan(value) and (state.best is None or value > state.best):
            state.best = value
            if rank() == 0:
                save_weights(parts.learner.kept, parts.job.fold.weights("best"))

    def _next_batch(self) -> Batch:
        try:
            return next(self._parts.stream)
        except LoadingError:
            self._stop_if_asked()  # the signal that stops this process may have stopped the workers first
            raise

    def _stop_if_asked(self) -> None:
        parts = self._parts
        if any_has(parts.stop.received is not None, parts.job.device):
            parts.learner.keeper.save(self._state)
            self._show(is_last=True)
            parts.stop.stop(f"the training was saved and stopped. {parts.job.resume_hint}")

    def _show(self, is_last: bool) -> None:
        """Write the table, and from time to time the figure."""
        if not self._history.rows or rank() > 0:
            return
        records = self._parts.job.fold.records
        self._history.write_table(records.log)
        if is_last or time.monotonic() - self._pictured > _PICTURE_SECONDS:
            self._history.write_picture(records.picture)
            self._pictured = time.monotonic()


def _ema(average: float | None, value: float) -> float:
    return value if average is None else EMA_DECAY * average + (1 - EMA_DECAY) * value
