"""Options of a run from a dataset to a model."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from configs.errors import Fault, raise_faults
from configs.files import parse_json
from planners.options import PlanningOptions


@dataclass(frozen=True, kw_only=True)
class Machines:
    """Where the work of a run is done.

    Attributes:
        devices: names of devices; on several, folds are trained side by side, each in a process of its own. A device may be named
            several times. Empty takes all GPUs, or else the CPU as many times as processors and memory allow.
        jobs: number of processes that preprocess; None chooses it.
        scheduler: address of a Dask scheduler whose workers preprocess cases and train folds.
    """

    devices: tuple[str, ...] = ()
    jobs: int | None = None
    scheduler: str | None = None


@dataclass(frozen=True)
class RunOptions(Machines):
    """Options of a run.

    Attributes:
        hours: time for the whole run in hours, into which networks, folds and epochs are fitted. None takes the length of `preset`, and
            without `preset` on a machine without a GPU the hours of a working day.
        preset: training settings, a name or a file. None takes `quick` on the CPU and `default` on a GPU.
        settings: training settings that override the preset.
        networks: networks of the plan to train; empty for all, or as many as fit into the time.
        configurations: configurations of the plan to train; empty for the one at full resolution.
        folds: folds to train; empty for all, or as many as fit into the time.
        splits: file with the cases of each fold; see `planners.plan_and_preprocess`.
        restart: make a new schedule, and train again what was trained.

    Raises:
        InputError: options are out of range or contradict each other; all of them are listed.
    """

    hours: float | None = None
    preset: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    networks: tuple[str, ...] = ()
    configurations: tuple[str, ...] = ()
    folds: tuple[int | str, ...] = ()
    splits: Path | None = None
    restart: bool = False

    def __post_init__(self) -> None:
        raise_faults(self._faults())

    def asked(self, planning: PlanningOptions | None) -> dict[str, Any]:
        """Return what the user decides of plan and schedule, as JSON values."""
        default = vars(PlanningOptions())
        deciding = {
            "planning": {name: value for name, value in vars(planning or PlanningOptions()).items() if value != default[name]},
            "hours": self.hours,
            "preset": self.preset,
            "settings": dict(self.settings),
            "networks": list(self.networks),
            "configurations": list(self.configurations),
            "folds": list(self.folds),
        }
        asked: dict[str, Any] = parse_json(json.dumps({name: value for name, value in deciding.items() if value}, default=str))
        return asked

    def _faults(self) -> Iterator[Fault]:
        if self.hours is not None and not 0 < self.hours < 10_000:
            yield Fault(f"--hours {self.hours:g}", "the time must be above 0 and below 10,000 hours", "Give for example 0.5 or 8")
        if self.hours is not None and "epochs" in self.settings:
            yield Fault("--hours and epochs", "both decide the length of the trainings", "Give one of them")
        if self.hours is not None and self.scheduler is not None:
            yield Fault(
                "--hours and --scheduler", "the speed of other machines is not measured", "Give --preset or --set epochs=N"
            )
        if self.devices and self.scheduler is not None:
            yield Fault("--devices and --scheduler", "folds are trained either here or on the cluster", "Give one of them")
