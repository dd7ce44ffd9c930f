"""The schedule of a run: which folds of which networks are trained for how long, and what is given up for the time."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from configs.errors import Fault, InputError, counted
from configs.files import Value
from configs.plan import Plan
from configs.training import TrainingConfig, load_training_config
from trainers.monitoring.forecast import Speed
from trainers.pipeline.options import RunOptions

HOURS_WITHOUT_GPU = 8.0  # a working day
ENOUGH_STEPS = 2000  # of each training, before more networks or folds are trained in the time that is given
_FASTER = 2.0  # by which the machine may be faster than when it was timed, as other programs may have kept it busy
_MARGIN = 0.97  # of the time, since durations vary
_SECONDS_TO_FINISH = 20.0  # for selection, reports and bundle
_FULL = "3d_fullres"


class Training(Value):
    """One fold to train."""

    configuration: str  # name of the configuration in the plan
    network: str  # name of the network in the plan
    fold: int | Literal["all"]  # number of the fold, or `all`
    refines: bool = False  # whether it is the second network of a cascade, which needs all folds of the first
    seconds: float | None = None  # expected duration with validation and calibration; None if it was not measured

    @property
    def model(self) -> str:
        """Name of the model's folder."""
        return f"{self.configuration}_{self.network}"

    def __str__(self) -> str:
        return f"{self.model}, fold {self.fold}"


class Schedule(Value):
    """All trainings of a run and their settings."""

    version: Literal[1] = 1  # version of the file format
    asked: dict[str, Any]  # options that the user gave
    hours: float | None  # hours for the whole run, or None
    side_by_side: int = Field(1, ge=1)  # number of trainings that run at the same time, on which their threads and length depend
    settings: TrainingConfig  # settings of all trainings
    trainings: tuple[Training, ...] = Field(min_length=1)  # in the order in which they start
    gives_up: tuple[str, ...] = ()  # what a full training would do beyond this


@dataclass(frozen=True)
class Wishes:
    """What may be trained: the schedule takes as much of it as fits into the time."""

    models: tuple[tuple[str, str], ...]  # configurations and networks; the first one comes first
    folds: tuple[int | Literal["all"], ...]  # folds of each
    settings: TrainingConfig  # settings, whose epochs are as many as fit where the time is limited
    hours: float | None  # hours for the whole run, or None
    needs_all_models: bool  # whether the user named them
    needs_all_folds: bool

    @classmethod
    def of(cls, options: RunOptions, plan: Plan, folds: int, on_gpu: bool) -> "Wishes":
        """Return what options ask of a plan whose dataset has this many folds.

        Raises:
            InputError: a configuration, network, fold, preset or setting is unknown.
        """
        is_open = options.hours is None and options.preset is None and "epochs" not in options.settings
        hours = HOURS_WITHOUT_GPU if is_open and not on_gpu else options.hours
        return cls(
            models=tuple(_models(options, plan)),
            folds=tuple(_known_folds(options.folds, folds)) if options.folds else tuple(range(folds)) or ("all",),
            settings=load_training_config(options.preset or ("default" if on_gpu else "quick"), dict(options.settings)),
            hours=hours,
            needs_all_models=bool(options.networks or options.configurations),
            needs_all_folds=bool(options.folds),
        )


def trainings_of(plan: Plan, models: Sequence[tuple[str, str]], folds: Sequence[int | Literal["all"]]) -> list[Training]:
    """Return the trainings of models in the order in which they start.

    The first folds of all models come first, so that there are models to compare early; second networks of cascades come last.
    """
    trainings = [
        Training(configuration=name, network=network, fold=fold, refines=plan.configuration(name).previous is not None)
        for fold in folds
        for name, network in models
    ]
    return [training for stage in stages(trainings) for training in stage]


def stages(trainings: Sequence[Training]) -> list[list[Training]]:
    """Return the trainings in the stages of cascades: those of a stage may run side by side, once the stage before is complete."""
    return [[training for training in trainings if training.refines is refines] for refines in (False, True)]


def make_schedule(
    wishes: Wishes,
    asked: dict[str, Any],
    plan: Plan,
    speeds: Mapping[tuple[str, str], Speed],
    seconds_spent: float = 0.0,
    side_by_side: int = 1,
) -> Schedule:
    """Return the schedule of the wishes, cut to what fits into their hours.

    The schedule records what the user asked for. `seconds_spent` is the time that the run has taken so far, and models without a measured
    speed are not timed.

    Raises:
        InputError: not even one epoch of the first model fits into the time, or a model was not timed.
    """
    models, folds, settings = wishes.models, wishes.folds, wishes.settings
    steps = float(settings.steps)
    if wishes.hours is not None:
        seconds = wishes.hours * 3600 * _MARGIN - seconds_spent - _SECONDS_TO_FINISH
        chosen = _fitting(wishes, speeds, seconds, side_by_side)
        models, folds, steps = chosen.models, chosen.folds, chosen.epochs * settings.iterations
        limits = {"time_limit": round(chosen.seconds, 1), "epochs": math.ceil(_FASTER * chosen.epochs)}
        settings = settings.model_copy(update=limits)
    trainings = [_timed(training, settings, speeds) for training in trainings_of(plan, models, folds)]
    given_up = tuple(_given_up(wishes, plan, models, folds, settings, steps))
    return Schedule(
        asked=asked,
        hours=wishes.hours,
        side_by_side=min(side_by_side, len(trainings)),
        settings=settings,
        trainings=tuple(trainings),
        gives_up=given_up,
    )


def _timed(training: Training, settings: TrainingConfig, speeds: Mapping[tuple[str, str], Speed]) -> Training:
    """Return a training with its expected duration."""
    speed = speeds.get((training.configuration, training.network))
    if speed is None:
        return training
    seconds = min(speed.epoch * settings.epochs, settings.time_limit or math.inf)
    return training.model_copy(update={"seconds": seconds + speed.training(0)})


def _rounded(steps: float) -> str:
    """Return a number of steps; large ones that are not whole hundreds were estimated, and are rounded."""
    return f"{steps:,.0f}" if steps < 1000 or steps % 100 == 0 else f"about {round(steps, -2):,.0f}"


def _models(options: RunOptions, plan: Plan) -> Iterator[tuple[str, str]]:
    main = _FULL if _FULL in plan.configurations else next(iter(plan.configurations))
    for configuration in options.configurations or (main,):
        for network in options.networks or tuple(plan.configuration(configuration).networks):
            plan.network(configuration, network)
            yield configuration, network


def _known_folds(folds: Sequence[int | str], number: int) -> Iterator[int | Literal["all"]]:
    for fold in folds:
        if fold == "all":
            yield "all"
        elif isinstance(fold, int) and 0 <= fold < number:
            yield fold
        else:
            raise InputError(Fault(f"--folds {fold}", f"the folds are 0 to {number - 1}", "Choose among them, or all"))


@dataclass(frozen=True)
class _Choice:
    """Models and folds that are trained in a limited time."""

    models: tuple[tuple[str, str], ...]
    folds: tuple[int | Literal["all"], ...]
    seconds: float  # of each training, without validation and calibration
    epochs: float  # of the slowest model

    @classmethod
    def of(
        cls,
        models: tuple[tuple[str, str], ...],
        folds: tuple[int | Literal["all"], ...],
        speeds: Mapping[tuple[str, str], Speed],
        seconds: float,
        side_by_side: int,
    ) -> "_Choice":
        """Divide the seconds evenly among the trainings of which each device has most."""
        rounds = math.ceil(len(folds) * len(models) / side_by_side)
        after = [speeds[model].training(0) for model in models]  # of which one device may get the longest each time
        each = seconds / rounds - (statistics.fmean(after) if side_by_side == 1 else max(after))
        return cls(models, folds, each, each / max(speeds[model].epoch for model in models))


def _fitting(wishes: Wishes, speeds: Mapping[tuple[str, str], Speed], seconds: float, side_by_side: int) -> _Choice:
    """Return as many models and folds as leave enough steps for each, or else the first alone."""
    untimed = [f"{configuration}_{network}" for configuration, network in wishes.models if (configuration, network) not in speeds]
    if untimed:
        problem = "its steps cannot be timed before the network whose segmentation it refines is trained"
        raise InputError(*(Fault(name, problem, "Give --preset or --set epochs=N instead of --hours") for name in untimed))
    few_models = wishes.models if wishes.needs_all_models else wishes.models[:1]
    few_folds = wishes.folds if wishes.needs_all_folds else wishes.folds[:1]
    widths = ((wishes.models, wishes.folds), (wishes.models, few_folds), (few_models, few_folds))
    choices = [_Choice.of(models, folds, speeds, seconds, side_by_side) for models, folds in widths]
    chosen = next((choice for choice in choices if choice.epochs * wishes.settings.iterations >= ENOUGH_STEPS), choices[-1])
    if chosen.epochs < 1 and wishes.hours is not None:
        rounds = math.ceil(len(chosen.models) * len(chosen.folds) / side_by_side)
        least = wishes.hours + rounds * (1 - chosen.epochs) * max(speeds[model].epoch for model in chosen.models) / 3600
        problem = f"planning, one epoch and its validation take about {least:.2g} hours"
        raise InputError(Fault(f"--hours {wishes.hours:g}", problem, "Give more hours, or fewer --networks and --folds"))
    return chosen


def _given_up(
    wishes: Wishes,
    plan: Plan,
    models: Sequence[tuple[str, str]],
    folds: Sequence[int | str],
    settings: TrainingConfig,
    steps: float,
) -> Iterator[str]:
    """Yield what preset `default` would do beyond the schedule."""
    full = load_training_config("default")
    if steps < full.steps:
        yield f"{_rounded(steps)} of the {full.steps:,} steps of preset default"
    planned = plan.network(*models[0])
    features = settings.base_features or planned.network.features[0]
    if features < planned.network.features[0]:
        yield f"{features} of {planned.network.features[0]} planned features in the first stage"
    if settings.batch_size and settings.batch_size < planned.batch_size:
        yield f"{settings.batch_size} of {planned.batch_size} planned patches in a batch"
    if len(folds) < len(wishes.folds):
        yield f"{counted(len(folds), 'fold')} of {len(wishes.folds)}, so only its validation cases are scored and no folds are averaged"
    left_out = [
        f"{configuration}_{network}" for configuration, network in wishes.models if (configuration, network) not in models
    ]
    if left_out:
        yield f"not trained: {', '.join(left_out)}"
