"""Loggers of each epoch's numbers besides log.csv: TensorBoard, MLflow and Weights & Biases behind one interface.

Each needs an optional package, which reads its keys and addresses from its own settings.
"""

import math
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from configs.errors import Fault, InputError, collecting, raise_faults


class Logger(Protocol):
    """Interface of the loggers."""

    def log(self, row: Mapping[str, float]) -> None:
        """Log the numbers of the epoch `row["epoch"]`; NaN means not measured."""
        ...

    def close(self) -> None:
        """Write pending entries and close."""
        ...


class TensorBoardLogger:
    """Writes event files to the fold's folder, for `tensorboard --logdir`."""

    def __init__(self, folder: Path, run: str, settings: Mapping[str, Any]):
        writer = _imported("torch.utils.tensorboard", "tensorboard").SummaryWriter
        self._writer = writer(str(folder / "tensorboard"))
        self._writer.add_text("settings", "\n".join(f"    {name}: {value}" for name, value in settings.items()))
        del run

    def log(self, row: Mapping[str, float]) -> None:
        """Add a point to the curve of each number."""
        for name, value in _measured(row).items():
            self._writer.add_scalar(name, value, int(row["epoch"]))
        self._writer.flush()

    def close(self) -> None:
        """Write pending entries and close."""
        self._writer.close()


class MLflowLogger:
    """Logs to a run of MLflow, at the address of MLflow's own settings."""

    def __init__(self, folder: Path, run: str, settings: Mapping[str, Any]):
        self._mlflow = _imported("mlflow", "mlflow")
        self._mlflow.start_run(run_name=run)
        self._mlflow.log_params(dict(settings))
        del folder

    def log(self, row: Mapping[str, float]) -> None:
        """Log a metric for each number."""
        self._mlflow.log_metrics(_measured(row), step=int(row["epoch"]))

    def close(self) -> None:
        """End the run."""
        self._mlflow.end_run()


class WandbLogger:
    """Logs to a run of Weights & Biases in the project `se-unet`; a resumed training continues its run."""

    def __init__(self, folder: Path, run: str, settings: Mapping[str, Any]):
        wandb = _imported("wandb", "wandb")
        identifier = run.replace("/", "-")
        self._run = wandb.init(project="se-unet", name=run, id=identifier, resume="allow", dir=str(folder), config=dict(settings))

    def log(self, row: Mapping[str, float]) -> None:
        """Log each number to its chart."""
        self._run.log(_measured(row), step=int(row["epoch"]))

    def close(self) -> None:
        """End the run."""
        self._run.finish()


KINDS: dict[str, type[TensorBoardLogger] | type[MLflowLogger] | type[WandbLogger]] = {
    "tensorboard": TensorBoardLogger,
    "mlflow": MLflowLogger,
    "wandb": WandbLogger,
}


def make_loggers(names: Sequence[str], folder: Path, run: str, settings: Mapping[str, Any]) -> list[Logger]:
    """Open the loggers of these names, keys of `KINDS`, for a training run with its settings.

    Raises:
        InputError: packages are not installed; all of them are listed.
    """
    loggers: list[Logger] = []
    faults: list[Fault] = []
    for name in names:
        with collecting(faults):
            loggers.append(KINDS[name](folder, run, settings))
    raise_faults(faults)
    return loggers


def _measured(row: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name != "epoch" and not math.isnan(value)}


def _imported(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        problem = f"the package is not installed ({error})"
        raise InputError(Fault(f"logger `{package}`", problem, f"Install it with pip install 'se-unet[{package}]'")) from error
