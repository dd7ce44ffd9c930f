"""What se_train computes: short trainings of a few cases in which most of the settings are used once."""

from dataclasses import dataclass
from pathlib import Path

from tests.same_results.commands import Commands
from tests.same_results.datasets import case_names, copy_cases
from tests.same_results.digests import Json, read_table, read_values, state_digest, stored_digest, weights_digest
from tests.same_results.planning import record_dataset

CASES = 10
SHORT = ("--preset", "quick", "--epochs", "2", "--iterations", "5", "--seed", "0")
TINY = ("--set", "validation_iterations=2", "base_features=4")
VARIED = (
    *("--preset", "default", "--epochs", "2", "--iterations", "3", "--batch-size", "2", "--workers", "1", "--seed", "3"),
    *(*TINY, "accumulate=2", "weight_average=0.9", "oversampling=probabilistic", "volumes_every=1", "volumes=1"),
    *("augment_on=device", "checkpointing=true", "warmup=0.2", "mirror=false"),
)


@dataclass(frozen=True)
class Training:
    """One call of se_train.

    Attributes:
        model: name of the model's folder.
        fold: the fold that is trained.
        options: what is added to the dataset, the working folder and the fold.
    """

    model: str
    fold: int
    options: tuple[str, ...]


TRAININGS = (
    Training("3d_fullres_se", 0, ("--network", "se", "--workers", "0", *SHORT, *TINY)),
    Training("3d_fullres_se", 1, ("--network", "se", "--workers", "1", *SHORT, *TINY)),
    Training("3d_fullres_baseline", 0, ("--network", "baseline", "--workers", "1", *SHORT, *TINY, "mirror=false")),
    Training("3d_fullres_baseline", 1, ("--network", "baseline", "--workers", "0", *SHORT, *TINY, "mirror=false")),
    Training("3d_fullres_se_varied", 0, ("--network", "se", "--tag", "varied", *VARIED)),
    Training("2d_se", 0, ("--network", "se", "--configuration", "2d", "--workers", "0", *SHORT, *TINY, "mirror=false")),
)
SCALES = (
    Training("3d_fullres_se", 0, ("--network", "se", "--workers", "0", *SHORT, *TINY, "augmentation=false", "mirror=false")),
)
_STAGE = ("--network", "se", "--workers", "0", *SHORT, *TINY, "mirror=false", "--configuration")
CASCADE = (
    Training("3d_lowres_se", 0, (*_STAGE, "3d_lowres")),
    Training("3d_lowres_se", 1, (*_STAGE, "3d_lowres")),
    Training("3d_cascade_fullres_se", 0, (*_STAGE, "3d_cascade_fullres")),
)


def record_trainings(commands: Commands, data: Path, work: Path) -> dict[str, Json]:
    """Train with a few cases of the hippocampus: two networks in two folds, other settings, slices, and in two parts."""
    dataset = _few_hippocampi(data, work)
    options = ("--patch-size", "32", "40", "32")
    commands.run("se_plan_and_preprocess", dataset, "--work", work, "--jobs", "1", *options)
    planned = work / dataset.name
    recorded: dict[str, Json] = {"dataset": record_dataset(planned)}
    recorded |= _train(commands, dataset, work, TRAININGS)
    recorded["splits"] = read_values(planned / "splits.json")
    return recorded | {"resumed": _train_in_two_parts(commands, dataset, work)}


def record_scales(commands: Commands, data: Path, work: Path) -> dict[str, Json]:
    """Train a network of three scales with a few cases of the hippocampus."""
    dataset = _few_hippocampi(data, work)
    options = ("--patch-size", "32", "40", "32", "--num-scales", "3", "--configurations", "3d_fullres")
    commands.run("se_plan_and_preprocess", dataset, "--work", work, "--jobs", "1", *options)
    return _train(commands, dataset, work, SCALES)


def record_cascade(commands: Commands, data: Path, work: Path) -> dict[str, Json]:
    """Train both stages of a cascade with two images of the spinal cord, one stored in another orientation."""
    dataset = copy_cases(data / "Dataset050_SpinalCordMix", ("sct_t1", "sct_t2"), work / "raw" / "Two")
    options = ("--size", "small", "--gpu-memory", "0.016", "--network", "se")
    commands.run("se_plan_and_preprocess", dataset, "--work", work, "--jobs", "1", *options)
    recorded: dict[str, Json] = {"dataset": record_dataset(work / dataset.name)}
    recorded |= _train(commands, dataset, work, CASCADE)
    previous = work / dataset.name / "preprocessed" / "3d_cascade_fullres_se_previous"
    recorded["first stage"] = {path.stem: stored_digest(path) for path in sorted(previous.glob("*.b2nd"))}
    return recorded | {"splits": read_values(work / dataset.name / "splits.json")}


def _few_hippocampi(data: Path, work: Path) -> Path:
    whole = data / "Dataset004_Hippocampus"
    return copy_cases(whole, case_names(whole)[:CASES], work / "raw" / "Few")


def _train(commands: Commands, dataset: Path, work: Path, trainings: tuple[Training, ...]) -> dict[str, Json]:
    for training in trainings:
        commands.run("se_train", dataset, "--work", work, "--fold", training.fold, *training.options)
    models = work / dataset.name / "models"
    return {f"{one.model} fold {one.fold}": record_fold(models / one.model, one.fold) for one in trainings}


def _train_in_two_parts(commands: Commands, dataset: Path, work: Path) -> Json:
    """One epoch from the weights of another model, then another epoch."""
    models = work / dataset.name / "models"
    line = ("se_train", dataset, "--work", work, "--network", "baseline", "--tag", "resumed", "--fold", "0")
    start = ("--init-weights", models / "3d_fullres_baseline" / "fold_0", "--workers", "0", *SHORT, *TINY, "mirror=false")
    commands.run(*line, *start, "--epochs", "1")
    commands.run(*line, "--resume", "--epochs", "2")
    return record_fold(models / "3d_fullres_baseline_resumed", 0)


def record_fold(model: Path, fold: int) -> dict[str, Json]:
    """All that the training of a fold left: settings, log, weights, the state to go on from, and validation scores."""
    folder = model / f"fold_{fold}"
    return {
        "plan": read_values(model / "plan.json"),
        "settings": read_values(model / "training.json", frozenset({"init_weights"})),
        "log": read_table(folder / "log.csv"),
        "final weights": weights_digest(folder / "weights_final.safetensors"),
        "best weights": weights_digest(folder / "weights_best.safetensors"),
        "checkpoint": state_digest(folder / "checkpoint_latest.pt"),
        "validation": read_values(folder / "validation" / "metrics.json"),
    }
