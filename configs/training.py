"""Training settings: everything that a preset or the command line can change."""

import json
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from configs.errors import Fault, InputError
from configs.files import Value, read_json


class TrainingConfig(Value):
    """How a network is trained. The defaults are nnU-Net's recipe (see `docs/`).

    Attributes:
        epochs, iterations: an epoch is this many steps.
        learning_rate, momentum, weight_decay, polynomial, clip_norm: SGD with Nesterov momentum; the rate falls as
            `learning_rate * (1 - step / steps) ** polynomial`; gradients are clipped to this norm.
        optimiser: `sgd`, or `adamw` (momentum unused).
        warmup: share of all steps over which the rate rises linearly from 0.
        batch_size: patches per step; None takes the plan's.
        base_features: channels of the first stage; None takes the plan's. All stages change in proportion.
        oversample_foreground: share of patches that are centred on a foreground voxel.
        augmentation: the plan's intensity and spatial transforms; False leaves mirroring only.
        augment_scale: the plan's random scaling, apart from the other transforms.
        mirror: random mirroring along the plan's axes.
        deep_supervision: also train on the coarser decoder stages.
        mixed_precision: `auto` uses it where the device has it.
        validate_every: epochs between estimates of the validation loss on patches.
        validation_iterations: patches batches of one such estimate.
        workers: processes that load and augment; None chooses by the number of cores.
        seed: of cases, weights and augmentation.
    """

    epochs: int = Field(default=1000, ge=1)
    iterations: int = Field(default=250, ge=1)
    optimiser: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = Field(default=1e-2, gt=0)
    momentum: float = Field(default=0.99, ge=0, lt=1)
    weight_decay: float = Field(default=3e-5, ge=0)
    polynomial: float = Field(default=0.9, ge=0)
    warmup: float = Field(default=0.0, ge=0, lt=1)
    clip_norm: float = Field(default=12.0, gt=0)
    batch_size: int | None = Field(default=None, ge=1)
    base_features: int | None = Field(default=None, ge=1)
    oversample_foreground: float = Field(default=1 / 3, ge=0, le=1)
    augmentation: bool = True
    augment_scale: bool = True
    mirror: bool = True
    deep_supervision: bool = True
    mixed_precision: Literal["auto", "off"] = "auto"
    validate_every: int = Field(default=1, ge=1)
    validation_iterations: int = Field(default=50, ge=1)
    workers: int | None = Field(default=None, ge=0)
    seed: int = Field(default=0, ge=0)

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.epochs * self.iterations


def preset_names() -> list[str]:
    """Names of the presets that come with the software."""
    return sorted(entry.name.removesuffix(".json") for entry in _presets().iterdir() if entry.name.endswith(".json"))


def load_training_config(preset: str, overrides: dict[str, Any] | None = None) -> TrainingConfig:
    """Settings of a preset (a name, or the path of a JSON file), changed by `overrides`.

    Raises:
        InputError: no such preset, or a setting that does not exist or is out of range; all of them are listed.
    """
    try:
        return TrainingConfig.model_validate(_read_preset(preset) | (overrides or {}))
    except ValidationError as error:
        faults = [
            Fault(
                f"setting `{'.'.join(map(str, problem['loc']))}`",
                f"{problem['msg']} (received {problem['input']!r})",
                f"The settings are {', '.join(TrainingConfig.model_fields)}",
            )
            for problem in error.errors()
        ]
        raise InputError(*faults) from error


def _read_preset(preset: str) -> dict[str, Any]:
    if preset in preset_names():
        data = json.loads((_presets() / f"{preset}.json").read_text(encoding="utf-8"))
    elif Path(preset).suffix == ".json":
        data = read_json(Path(preset))
    else:
        raise InputError(
            Fault(
                f"preset `{preset}`",
                "there is none of this name",
                f"Choose one of {', '.join(preset_names())}, or give the path of a JSON file",
            )
        )
    if not isinstance(data, dict):
        raise InputError(Fault(f"preset `{preset}`", "it is no JSON object", 'Write settings as {"epochs": 100}'))
    return data


def _presets() -> Any:
    return resources.files("configs") / "presets"
