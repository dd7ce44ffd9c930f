"""Training checkpoints: written completely or not at all, and read without unpickling code."""

import random
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from configs.errors import Fault, InputError
from configs.files import raise_if_full, replacing
from se_unet.weights import load_restricted
from trainers.optimisation.distributed import gathered, processes, rank
from trainers.optimisation.precision import Precision


def random_states() -> dict[str, Any]:
    """Return the states of the random generators of PyTorch (CPU and CUDA), NumPy and Python."""
    name, keys, position, has_gauss, cached = np.random.get_state()
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), int(position), int(has_gauss), float(cached)],
        "python": [version, list(internal), gauss],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Restore the generator states; those of CUDA only if the number of devices is the same."""
    torch.set_rng_state(states["torch"])
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
    name, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))


_FORMAT = 2


@dataclass
class TrainingState:
    """Progress of a training."""

    epoch: int = 0  # current epoch, from 0; the number of epochs when training is complete
    losses: list[float] = field(default_factory=list)  # losses of this epoch's steps so far; NaN for skipped steps
    ema: float | None = None  # moving average of the mean pseudo-Dice; None before the first value
    class_ema: dict[str, float] = field(default_factory=dict)  # the same for each label that has occurred
    best: float | None = None  # highest moving average so far, or Dice of whole volumes if these are validated
    rows: list[dict[str, float]] = field(default_factory=list)  # finished epochs, see `EpochRecord.row`


@dataclass(frozen=True)
class CheckpointKeeper:
    """Saves and loads everything needed to resume a training."""

    path: Path  # path to the checkpoint
    network: nn.Module  # network whose weights are saved
    optimiser: Optimizer  # optimiser whose state is saved
    precision: Precision  # precision whose loss scale is saved
    average: nn.Module | None = None  # weight average, or None

    def save(self, state: TrainingState) -> None:
        """Replace the checkpoint. Every process calls this; the first one writes."""
        every_random = gathered(random_states())
        if rank() > 0:
            return
        content = {
            "format": _FORMAT,
            "state": asdict(state),
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "precision": self.precision.state(),
            "average": None if self.average is None else self.average.state_dict(),
            "random": every_random,
        }
        with replacing(self.path) as temporary:
            try:
                torch.save(content, temporary)
            except RuntimeError:
                raise_if_full(temporary, _tensor_bytes(content))  # PyTorch does not say why it cannot write
                raise

    def load(self) -> TrainingState:
        """Restore network, optimiser, loss scale, weight average and random generators.

        Raises:
            InputError: the file cannot be read or belongs to another network or optimiser.
        """
        content = _read(self.path)
        try:
            self.network.load_state_dict(content["network"])
            self.optimiser.load_state_dict(content["optimiser"])
            if self.average is not None and content["average"] is not None:
                self.average.load_state_dict(content["average"])
            self.precision.load_state(content["precision"])
            if len(content["random"]) == processes():
                restore_random_states(content["random"][rank()])
            return TrainingState(**content["state"])
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            problem = f"the checkpoint is damaged or belongs to another network or optimiser ({error})"
            raise InputError(Fault(str(self.path), problem, "Resume with the original settings, or use --restart")) from error


def epochs_done(path: Path) -> int:
    """Return the number of epochs that a checkpoint has completed.

    Raises:
        InputError: the file cannot be read.
    """
    content = _read(path)
    try:
        return int(content["state"]["epoch"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(Fault(str(path), "the checkpoint does not record its epoch", "Restart with --restart")) from error


def _tensor_bytes(content: Any) -> int:
    """Return the size of all tensors in nested containers."""
    if isinstance(content, torch.Tensor):
        return content.numel() * content.element_size()
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list | tuple) else ()
    return sum(map(_tensor_bytes, parts))


def _read(path: Path) -> dict[str, Any]:
    content = load_restricted(path, "Restart with --restart")
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise InputError(Fault(str(path), "not a checkpoint of this version", "Restart with --restart"))
    return content


@dataclass(frozen=True)
class Learner:
    """A network together with what trains it."""

    network: nn.Module  # with fresh or given weights, on its device
    average: AveragedModel | None  # weight average, or None
    optimiser: Optimizer
    precision: Precision
    keeper: CheckpointKeeper

    @property
    def kept(self) -> nn.Module:
        """The network whose weights are the result."""
        return self.network if self.average is None else self.average.module
