"""The training loop: epochs of steps, an estimate on validation patches, a checkpoint after each epoch."""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from configs.dataset import DatasetDescription
from configs.progress import Progress
from configs.training import TrainingConfig
from se_unet.weights import save_weights
from trainers.batches import Batch, LoadingError, Schedule
from trainers.checkpoint import CheckpointKeeper, TrainingState
from trainers.folders import FoldFolder
from trainers.history import EpochRecord, History
from trainers.interruption import StopRequest
from trainers.loading import BatchStream
from trainers.optimisation import learning_rate, set_learning_rate
from trainers.precision import Precision
from trainers.pseudo_dice import PseudoDice, mean_of_defined

logger = logging.getLogger(__name__)

EMA_DECAY = 0.9
MOST_SKIPPED = 5  # steps in a row; then the training cannot recover by itself
_PICTURE_SECONDS = 60  # between pictures, which take longer to draw than a short epoch should


class NotFiniteError(RuntimeError):
    """Loss or gradients were not finite in several steps in a row."""


@dataclass(frozen=True)
class Parts:
    """What a training is composed of.

    Attributes:
        network, loss, optimiser, precision, device: of a step; network and loss are on the device.
        stream: batches in the order of `schedule`, from the state's step on.
        schedule: which epochs validate.
        config: settings.
        description: of the labels.
        folder: where weights and logs go.
        keeper: of checkpoints.
        stop: noted signals.
        progress: shows the steps.
        resume_hint: what to tell when the training stops early.
    """

    network: nn.Module
    loss: nn.Module
    optimiser: Optimizer
    precision: Precision
    device: torch.device
    stream: BatchStream
    schedule: Schedule
    config: TrainingConfig
    description: DatasetDescription
    folder: FoldFolder
    keeper: CheckpointKeeper
    stop: StopRequest
    progress: Progress
    resume_hint: str


class Trainer:
    """Runs a training from its state to the end.

    Args:
        parts: of the training.
        state: how far it is.
    """

    def __init__(self, parts: Parts, state: TrainingState):
        self._parts = parts
        self._state = state
        self._history = History(state.rows)
        self._skipped: list[Batch] = []
        self._pictured = -math.inf

    def run(self) -> None:
        """Train the epochs that are left.

        Raises:
            TrainingInterruptedError: on a signal, after the current step; the checkpoint holds everything up to there.
            NotFiniteError: the loss was not finite in several steps in a row.
            LoadingError: a batch could not be made.
        """
        epochs = self._parts.config.epochs
        while self._state.epoch < epochs:
            record = self._run_epoch()
            logger.info(record.summary(epochs))
            self._history.append(record)
            self._state.rows = self._history.rows
            self._state.epoch += 1
            self._state.losses = []
            self._parts.keeper.save(self._state)
            self._show(is_last=self._state.epoch == epochs)

    def _run_epoch(self) -> EpochRecord:
        start = time.perf_counter()
        waited = self._train()
        training_seconds = time.perf_counter() - start
        losses = [loss for loss in self._state.losses if math.isfinite(loss)]
        validation_loss, dice = self._validate() if self._parts.schedule.validates(self._state.epoch) else (math.nan, [])
        names = self._parts.description.foreground
        mean = mean_of_defined(dice)
        self._keep_best(mean)
        return EpochRecord(
            epoch=self._state.epoch + 1,
            learning_rate=self._parts.optimiser.param_groups[0]["lr"],
            training_loss=sum(losses) / len(losses) if losses else math.nan,
            validation_loss=validation_loss,
            pseudo_dice=dict(zip(names, dice or [math.nan] * len(names), strict=True)),
            mean_pseudo_dice=mean,
            ema_pseudo_dice=math.nan if self._state.ema is None else self._state.ema,
            skipped_steps=len(self._state.losses) - len(losses),
            seconds=time.perf_counter() - start,
            data_wait_share=waited / training_seconds,
        )

    def _train(self) -> float:
        """The steps of the epoch that are left. Returns seconds spent waiting for data."""
        parts, state = self._parts, self._state
        parts.network.train()
        waited = parts.stream.waited
        left = range(len(state.losses), parts.config.iterations)
        description = f"epoch {state.epoch + 1}/{parts.config.epochs}"
        for iteration in parts.progress.track(left, description, len(left)):
            self._stop_if_asked()
            set_learning_rate(parts.optimiser, learning_rate(parts.config, state.epoch * parts.config.iterations + iteration))
            state.losses.append(self._step(self._next_batch()))
            parts.progress.note(f"loss {state.losses[-1]:.3f}")
        self._stop_if_asked()
        return parts.stream.waited - waited

    def _step(self, batch: Batch) -> float:
        """One step. Returns the loss, NaN where the step was skipped."""
        parts = self._parts
        images, labels = self._to_device(batch)
        with parts.precision.context():
            logits = parts.network(images)
        loss = parts.loss(logits, labels)
        value = float(loss.detach())
        if math.isfinite(value) and parts.precision.step(loss, parts.network, parts.optimiser, parts.config.clip_norm):
            self._skipped.clear()
            return value
        self._skipped.append(batch)
        cases = ", ".join(dict.fromkeys(case for skipped in self._skipped for case in skipped.cases))
        logger.warning("step skipped: the loss (%s) or its gradients are not finite, cases %s", value, ", ".join(batch.cases))
        if len(self._skipped) >= MOST_SKIPPED:
            raise NotFiniteError(
                f"loss or gradients were not finite in {MOST_SKIPPED} steps in a row (cases {cases}). The last epoch's "
                "checkpoint is whole. Look at these cases, or train anew with a lower learning rate"
            )
        return math.nan

    def _validate(self) -> tuple[float, list[float]]:
        """Mean loss and Dice of each label on validation patches."""
        parts = self._parts
        parts.network.eval()
        dice = PseudoDice(parts.description, parts.device)
        losses = []
        with torch.no_grad():
            for _ in range(parts.schedule.validation_iterations):
                self._stop_if_asked()
                images, labels = self._to_device(self._next_batch())
                with parts.precision.context():
                    logits = parts.network(images)
                losses.append(float(parts.loss(logits, labels)))
                dice.add(logits, labels)
        return sum(losses) / len(losses), dice.values()

    def _keep_best(self, mean: float) -> None:
        """Update the moving average; write the weights where it is the highest so far."""
        state = self._state
        if math.isnan(mean):
            return
        state.ema = mean if state.ema is None else EMA_DECAY * state.ema + (1 - EMA_DECAY) * mean
        if state.best is None or state.ema > state.best:
            state.best = state.ema
            save_weights(self._parts.network, self._parts.folder.best_weights)

    def _next_batch(self) -> Batch:
        try:
            return next(self._parts.stream)
        except LoadingError:
            self._stop_if_asked()  # what stops this process may have ended the workers first
            raise

    def _to_device(self, batch: Batch) -> Sequence[Tensor]:
        arrays = (torch.from_numpy(batch.images), torch.from_numpy(batch.labels))
        return [array.to(self._parts.device, non_blocking=True) for array in arrays]

    def _stop_if_asked(self) -> None:
        if self._parts.stop.received is not None:
            self._parts.keeper.save(self._state)
            self._show(is_last=True)
            self._parts.stop.raise_if_received(f"the training stopped and is saved. {self._parts.resume_hint}")

    def _show(self, is_last: bool) -> None:
        """Write the table, and from time to time the picture."""
        if not self._history.rows:
            return
        self._history.write_table(self._parts.folder.log)
        if is_last or time.monotonic() - self._pictured > _PICTURE_SECONDS:
            self._history.write_picture(self._parts.folder.picture)
            self._pictured = time.monotonic()
