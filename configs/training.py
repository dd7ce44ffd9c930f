"""Training settings, which a preset or the command line can change."""

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from configs.errors import Fault, InputError
from configs.files import Value, parse_json, read_json
from configs.named_parts import PATTERN

Part = Literal["encoder", "decoder", "heads"]


class TrainingConfig(Value):
    """Settings of a training. The defaults are nnU-Net's recipe (see `docs/explanation/training.md`).

    Attributes:
        epochs: number of epochs.
        iterations: number of steps of an epoch.
        time_limit: seconds after which the training ends if it has not had all epochs; the learning rate falls with the time then. None
            sets no limit.
        optimiser: `sgd` with Nesterov momentum, or `adamw` (momentum unused).
        learning_rate, momentum, weight_decay: parameters of the optimiser.
        schedule: `polynomial` decays as `learning_rate * (1 - step / steps) ** polynomial`, `cosine` as half a cosine wave to 0.
        polynomial: exponent of the polynomial schedule.
        warmup: share of all steps over which the learning rate rises linearly from 0.
        clip_norm: largest norm of the gradients; larger ones are clipped.
        batch_size: patches in a step; None uses the plan.
        accumulate: number of parts into which a batch is split to save memory; their gradients are added, so that the step is the same.
        base_features: channels of the first stage; all stages change in proportion. None uses the plan.
        checkpointing: whether to compute activations again for the gradients, which saves memory; None uses the plan.
        weight_average: decay of an exponential average of the weights over steps, which is validated and saved; None disables averaging.
        oversample_foreground: share of patches that are centred on a foreground voxel.
        oversampling: `position` centres patches at fixed positions of each batch (nnU-Net's default), `probabilistic` draws for each patch.
        class_weights: label -> frequency of patches centred on it, relative to other labels (1).
        loss_weights: label -> weight in the loss, relative to other labels (1).
        top_k: share of the voxels, those with the largest cross-entropy, that count; None takes all.
        centreline: weight in the loss of the recall of the labels' centrelines.
        augmentation: whether to use the plan's intensity and spatial transforms; False keeps mirroring only.
        augment_on: `workers` augments in the loading processes, `device` augments whole batches on the training device.
        augment_scale: whether to use the plan's random scaling among these transforms.
        mirror: whether to mirror at random along the plan's axes.
        deep_supervision: whether to train on the coarser decoder stages as well.
        mixed_precision: `auto` uses bfloat16 or float16 where the GPU supports it; `bf16` and `fp16` request one on any device; `off`.
        compile: `auto` compiles the network for CUDA, and runs it without compilation if that fails; `on`; `off`.
        deterministic: whether to use only algorithms that give the same numbers in every run, on GPUs as well.
        validate_every: number of epochs between estimates of the validation loss on patches.
        validation_iterations: batches of one such estimate.
        volumes_every: number of epochs between validations on whole volumes, whose Dice then selects the best weights; 0 disables them.
        volumes: cases of one such validation.
        loggers: services that receive the numbers of log.csv as well: `tensorboard`, `mlflow`, `wandb`.
        workers: number of processes that load and augment; None uses the number of cores.
        seed: seed of cases, weights and augmentation.
        network_class, loss_class, augmentation_class, trainer_class: the user's own classes, `package.module:Class`.
        init_weights: folder or weights of a model, or checkpoint of nnU-Net, from which matching layers are initialised.
        freeze: parts of the network whose weights stay as they are.
        encoder_rate: learning rate of the encoder, as a share of that of the other parts.
    """

    epochs: int = Field(default=1000, ge=1)
    iterations: int = Field(default=250, ge=1)
    time_limit: float | None = Field(default=None, gt=0)
    optimiser: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = Field(default=1e-2, gt=0)
    momentum: float = Field(default=0.99, ge=0, lt=1)
    weight_decay: float = Field(default=3e-5, ge=0)
    schedule: Literal["polynomial", "cosine"] = "polynomial"
    polynomial: float = Field(default=0.9, ge=0)
    warmup: float = Field(default=0.0, ge=0, lt=1)
    clip_norm: float = Field(default=12.0, gt=0)
    batch_size: int | None = Field(default=None, ge=1)
    accumulate: int = Field(default=1, ge=1)
    base_features: int | None = Field(default=None, ge=1)
    checkpointing: bool | None = None
    weight_average: float | None = Field(default=None, gt=0, lt=1)
    oversample_foreground: float = Field(default=1 / 3, ge=0, le=1)
    oversampling: Literal["position", "probabilistic"] = "position"
    class_weights: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    loss_weights: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    top_k: float | None = Field(default=None, gt=0, le=1)
    centreline: float = Field(default=0.0, ge=0)
    augmentation: bool = True
    augment_on: Literal["workers", "device"] = "workers"
    augment_scale: bool = True
    mirror: bool = True
    deep_supervision: bool = True
    mixed_precision: Literal["auto", "bf16", "fp16", "off"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    deterministic: bool = False
    validate_every: int = Field(default=1, ge=1)
    validation_iterations: int = Field(default=50, ge=1)
    volumes_every: int = Field(default=0, ge=0)
    volumes: int = Field(default=4, ge=1)
    loggers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()
    workers: int | None = Field(default=None, ge=0)
    seed: int = Field(default=0, ge=0)
    network_class: str | None = Field(default=None, pattern=PATTERN)
    loss_class: str | None = Field(default=None, pattern=PATTERN)
    augmentation_class: str | None = Field(default=None, pattern=PATTERN)
    trainer_class: str | None = Field(default=None, pattern=PATTERN)
    init_weights: str | None = None
    freeze: tuple[Part, ...] = ()
    encoder_rate: float = Field(default=1.0, ge=0, le=1)

    @property
    def steps(self) -> int:
        """Number of steps of the whole training."""
        return self.epochs * self.iterations


def preset_names() -> list[str]:
    """Return the names of the built-in presets."""
    return sorted(entry.name.removesuffix(".json") for entry in _presets().iterdir() if entry.name.endswith(".json"))


def load_training_config(preset: str, overrides: dict[str, Any] | None = None) -> TrainingConfig:
    """Return the settings of a preset (a name, or the path of a JSON file), changed by `overrides`.

    Raises:
        InputError: the preset is unknown, or settings are unknown or out of range; all of them are listed.
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
        data = parse_json((_presets() / f"{preset}.json").read_bytes())
    elif Path(preset).suffix == ".json":
        data = read_json(Path(preset))
    else:
        raise InputError(
            Fault(
                f"preset `{preset}`",
                "unknown preset",
                f"Choose one of {', '.join(preset_names())}, or give the path of a JSON file",
            )
        )
    if not isinstance(data, dict):
        raise InputError(Fault(f"preset `{preset}`", "not a JSON object", 'Write settings as {"epochs": 100}'))
    return data


def _presets() -> Any:
    return resources.files("configs") / "presets"
