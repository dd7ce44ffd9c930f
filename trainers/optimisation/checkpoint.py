"""The state of a training on disk: written whole or not at all, read without unpickling anything that could run."""

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
    """States of PyTorch (CPU and CUDA), NumPy and Python."""
    name, keys, position, has_gauss, cached = np.random.get_state()
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), int(position), int(has_gauss), float(cached)],
        "python": [version, list(internal), gauss],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Put the generators back to these states; those of CUDA only where there are as many devices as then."""
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
    """How far a training is.

    Attributes:
        epoch: being worked on, from 0; equal to the number of epochs when all is done.
        losses: of the steps done in this epoch; NaN for skipped steps.
        ema: moving average of the mean pseudo-Dice, or None before the first.
        class_ema: the same of each label that has occurred.
        best: the highest mean so far, or, where whole volumes are validated, the highest Dice of theirs; None before the first.
        rows: of the finished epochs, see `history.EpochRecord.row`.
    """

    epoch: int = 0
    losses: list[float] = field(default_factory=list)
    ema: float | None = None
    class_ema: dict[str, float] = field(default_factory=dict)
    best: float | None = None
    rows: list[dict[str, float]] = field(default_factory=list)


class CheckpointKeeper:
    """Saves and loads everything that a training needs to go on.

    Args:
        path: of the checkpoint.
        network, optimiser, precision: whose states are kept.
        average: of the weights, or None.
    """

    def __init__(
        self, path: Path, network: nn.Module, optimiser: Optimizer, precision: Precision, average: nn.Module | None = None
    ):
        self.path = path
        self._network = network
        self._optimiser = optimiser
        self._precision = precision
        self._average = average

    def save(self, state: TrainingState) -> None:
        """Write the checkpoint in place of the former one. Every process calls this, the first one writes."""
        every_random = gathered(random_states())
        if rank() > 0:
            return
        content = {
            "format": _FORMAT,
            "state": asdict(state),
            "network": self._network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "precision": self._precision.state(),
            "average": None if self._average is None else self._average.state_dict(),
            "random": every_random,
        }
        with replacing(self.path) as temporary:
            try:
                torch.save(content, temporary)
            except RuntimeError:
                raise_if_full(temporary, _tensor_bytes(content))  # the library does not say why it cannot write
                raise

    def load(self) -> TrainingState:
        """Put network, optimiser, loss scale and random generators to the saved state.

        Raises:
            InputError: the file cannot be read or is of another network.
        """
        content = _read(self.path)
        try:
            self._network.load_state_dict(content["network"])
            self._optimiser.load_state_dict(content["optimiser"])
            if self._average is not None and content["average"] is not None:
                self._average.load_state_dict(content["average"])
            self._precision.load_state(content["precision"])
            if len(content["random"]) == processes():
                restore_random_states(content["random"][rank()])
            return TrainingState(**content["state"])
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            problem = f"it is damaged, or of another network or optimiser ({error})"
            raise InputError(Fault(str(self.path), problem, "Resume with the settings of its training, or --restart")) from error


def epochs_done(path: Path) -> int:
    """Whole epochs that a checkpoint has behind it.

    Raises:
        InputError: it cannot be read.
    """
    content = _read(path)
    try:
        return int(content["state"]["epoch"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(Fault(str(path), "it does not say how far its training is", "Train anew with --restart")) from error


def _tensor_bytes(content: Any) -> int:
    """Of all tensors in nested containers."""
    if isinstance(content, torch.Tensor):
        return content.numel() * content.element_size()
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list | tuple) else ()
    return sum(map(_tensor_bytes, parts))


def _read(path: Path) -> dict[str, Any]:
    content = load_restricted(path, "Train anew with --restart")
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise InputError(Fault(str(path), "it is no checkpoint of this version", "Train anew with --restart"))
    return content


@dataclass(frozen=True)
class Learner:
    """A network and what changes it.

    Attributes:
        network: with fresh or given weights, on its device.
        average: of its weights, or None.
        optimiser, precision: of its steps.
        keeper: of checkpoints of all of these.
    """

    network: nn.Module
    average: AveragedModel | None
    optimiser: Optimizer
    precision: Precision
    keeper: CheckpointKeeper

    @property
    def kept(self) -> nn.Module:
        """The network whose weights are the result."""
        return self.network if self.average is None else self.average.module
