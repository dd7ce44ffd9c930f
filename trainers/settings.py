"""Training settings brought together: preset, command line, plan, and what an earlier run recorded."""

from collections.abc import Mapping
from typing import Any

from configs.errors import Fault, raise_faults
from configs.network import NetworkConfig
from configs.plan import NetworkPlan
from configs.training import TrainingConfig, load_training_config
from trainers.folders import ModelFolder

_CHANGEABLE = {"workers", "loggers", "compile"}  # how fast the same training runs, and who watches
_CHANGEABLE_ON_RESUME = {*_CHANGEABLE, "epochs"}  # the rate follows the new schedule from the next step on


def resolve_config(model: ModelFolder, preset: str | None, overrides: Mapping[str, Any], resume: bool) -> TrainingConfig:
    """Settings of a run: those of the preset with overrides; on `resume` without a preset, the recorded ones with overrides.

    Raises:
        InputError: no such preset or setting.
    """
    if resume and preset is None and model.settings.is_file():
        return load_training_config(str(model.settings), dict(overrides))
    return load_training_config(preset or "default", dict(overrides))


def adapt_plan(planned: NetworkPlan, config: TrainingConfig) -> NetworkPlan:
    """The network as it will be trained: the plan's, with what the settings change.

    Features of all stages change in proportion to the first. Without mirroring in training there is none in prediction.
    """
    first = planned.network.features[0]
    base = config.base_features or first
    network = NetworkConfig.model_validate(
        planned.network.model_dump()
        | {
            "features": tuple(max(1, round(features * base / first)) for features in planned.network.features),
            "deep_supervision": planned.network.deep_supervision and config.deep_supervision,
            "checkpointing": planned.network.checkpointing if config.checkpointing is None else config.checkpointing,
        }
    )
    changes = {
        "network": network,
        "batch_size": config.batch_size or planned.batch_size,
        "mirror_axes": planned.mirror_axes if config.mirror else (),
        "network_class": config.network_class,
    }
    return planned.model_copy(update=changes)


def check_settings(model: ModelFolder, fold: int | str, config: TrainingConfig, plan_changed: bool, resume: bool) -> None:
    """One model has one plan and one set of settings: refuse others where a fold was already trained with them.

    Args:
        model: where the model lies or will lie.
        fold: to be trained.
        config: its settings.
        plan_changed: whether the plan differs from the recorded one.
        resume: whether the fold itself goes on with what it has.

    Raises:
        InputError: settings that differ; all of them are listed.
    """
    trained = model.other_folds(fold)
    goes_on = resume and model.fold(fold).checkpoint.is_file()
    if not model.settings.is_file() or not (trained or goes_on):
        return
    where, remedy = _conflict(model, trained, goes_on)
    recorded = load_training_config(str(model.settings)).model_dump()
    free = _CHANGEABLE_ON_RESUME if goes_on else _CHANGEABLE
    faults = [
        Fault(f"setting `{name}`", f"{value} differs from {recorded[name]}, with which {where}", remedy)
        for name, value in config.model_dump().items()
        if name not in free and value != recorded[name]
    ]
    if plan_changed and not faults:
        faults.append(Fault(str(model.plan), f"the dataset's plan differs from the one with which {where}", remedy))
    raise_faults(faults)


def _conflict(model: ModelFolder, trained: list[str], goes_on: bool) -> tuple[str, str]:
    if goes_on:
        return "the fold was trained so far", "Resume with the same settings, or train anew with --restart"
    remedy = f"Use the same settings, give another --tag, or delete {model.path}"
    return f"fold {', '.join(trained)} of this model was trained", remedy
