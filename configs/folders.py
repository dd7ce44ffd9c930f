"""Where files lie: the folders of planned datasets, of trained models and of their folds.

This module alone spells the names. It writes nothing, and reads only which folders exist.

    WORK/DATASET/            dataset.json, fingerprint.json, fingerprint.csv, plan.json, splits.json, report.html
                             schedule.json, run_training.json, index.html, bundles/: written by se_run
        preprocessed/        CONFIGURATION/: preprocessed cases
        models/              CONFIGURATION_NETWORK[_TAG]/: plan.json, training.json, calibration.json, ...
            fold_FOLD/       split.json, weights_final.safetensors, weights_best.safetensors, checkpoint_latest.pt, log.csv, ...
                validation/  CASE.nii.gz, metrics.json, weights.json
"""

import re
from dataclasses import dataclass
from pathlib import Path

from configs.errors import Fault, InputError, raise_faults
from configs.files import list_folder
from configs.outputs import name_faults
from configs.plan import ModelPlan

PLAN, DATASET, SETTINGS, EQUIVARIANCE = "plan.json", "dataset.json", "training.json", "equivariance.json"
CALIBRATION, FORMER_SCALES = "calibration.json", "scales.json"
METRICS = "metrics.json"
SPLITS = "splits.json"
CHECKPOINTS = ("final", "best")  # weights at the end of a training, and at its best epoch
ALL = "all"  # the fold that trains on every case, and validates on cases that it knows
EVERY = "every"  # on the command line: every trained fold

_FOLD = "fold_"
_WEIGHTS = re.compile(rf"{_FOLD}(?P<fold>[0-9A-Za-z]{{1,32}})/weights_(?P<checkpoint>{'|'.join(CHECKPOINTS)})\.safetensors")


@dataclass(frozen=True)
class Folder:
    """A folder whose entries have known names."""

    path: Path


class Entry:
    """A file of a folder; read from a `Folder`, it is the path to the file."""

    def __init__(self, name: str):
        self._name = name

    def __get__(self, folder: Folder, kind: type) -> Path:
        return folder.path / self._name


class TrainingRecords(Folder):
    """Files that show how the training of a fold went. Neither resuming nor prediction needs them."""

    log = Entry("log.csv")  # table with one row for each epoch
    picture = Entry("progress.png")  # curves of the log
    preview = Entry("preview.png")  # patches before and after augmentation


class ValidationFolder(Folder):
    """Segmentations of a fold's validation cases, and their scores."""

    metrics = Entry(METRICS)  # scores of all cases
    weights = Entry("weights.json")  # record of the weights that made the segmentations

    def segmentation(self, identifier: str) -> Path:
        """Return the path to the segmentation of a case."""
        return self.path / f"{identifier}.nii.gz"


class FoldFolder(Folder):
    """Files of one trained fold."""

    looks = Entry("looks.json")  # what the network shows on validation cases of other sizes
    split = Entry("split.json")  # record of the cases that the fold trains on and validates
    checkpoint = Entry("checkpoint_latest.pt")  # state of the training after its last whole epoch, or where it was interrupted

    @property
    def name(self) -> str:
        """Name of the fold: a number, or "all"."""
        return self.path.name.removeprefix(_FOLD)

    @property
    def model(self) -> "ModelFolder":
        """Folder of the model."""
        return ModelFolder(self.path.parent)

    @property
    def final_weights(self) -> Path:
        """Weights at the end: where they exist, the training is finished."""
        return self.weights("final")

    @property
    def records(self) -> TrainingRecords:
        """Log and pictures."""
        return TrainingRecords(self.path)

    @property
    def validation(self) -> ValidationFolder:
        """Folder of the validation cases' segmentations."""
        return ValidationFolder(self.path / "validation")

    @property
    def is_started(self) -> bool:
        """Whether a training has left anything to lose."""
        return self.checkpoint.is_file() or self.final_weights.is_file()

    def weights(self, checkpoint: str) -> Path:
        """Return the path to the weights of a checkpoint, `final` or `best`."""
        return self.path / f"weights_{checkpoint}.safetensors"

    def __str__(self) -> str:
        return f"{self.model.dataset.path.name}/{self.model.path.name}/{self.path.name}"


class ModelFolder(Folder):
    """A trained model: plan, settings and folds."""

    plan = Entry(PLAN)  # plan of one configuration with one network
    settings = Entry(SETTINGS)  # training settings
    calibration = Entry(CALIBRATION)  # what validation cases tell of the expected Dice
    former_scales = Entry(FORMER_SCALES)  # weights of scales that earlier versions learned
    robustness = Entry("scale_robustness.json")  # scores at several sizes of the anatomy
    equivariance = Entry(EQUIVARIANCE)  # measured equivariance error

    @property
    def dataset(self) -> "DatasetFolder":
        """Folder of the dataset that holds this model in its `models`."""
        return DatasetFolder(self.path.resolve().parent.parent)

    def fold(self, fold: int | str) -> FoldFolder:
        """Return the folder of a fold."""
        return FoldFolder(self.path / f"{_FOLD}{fold}")

    def folds(self) -> list[FoldFolder]:
        """Return the folders of all folds that exist, numbers first and in order.

        Raises:
            OSError: the folder cannot be read.
        """
        found = [path for path in list_folder(self.path, f"{_FOLD}*") if path.is_dir()]
        return [FoldFolder(path) for path in sorted(found, key=lambda path: (len(path.name), path.name))]


class RunRecords(Folder):
    """What se_run writes into the folder of a planned dataset."""

    schedule = Entry("schedule.json")  # all trainings, with their settings
    settings = Entry("run_training.json")  # these settings as a file of their own, which se_train takes as a preset
    page = Entry("index.html")  # page that links to all results
    bundles = Entry("bundles")  # folder of the exported bundles


class DatasetFolder(Folder):
    """A planned dataset under WORK."""

    description = Entry(DATASET)  # channels and labels
    fingerprint = Entry("fingerprint.json")  # fingerprint of the dataset
    fingerprint_table = Entry("fingerprint.csv")  # fingerprint as a table with one row for each case
    plan = Entry(PLAN)  # plan of all configurations and networks
    splits = Entry(SPLITS)  # cases of each fold
    preprocessed = Entry("preprocessed")  # folder of the preprocessed cases of all configurations
    models_folder = Entry("models")  # folder of all models

    @property
    def models(self) -> list[ModelFolder]:
        """Models that have a plan, sorted by name."""
        return [ModelFolder(path) for path in list_folder(self.models_folder, "*") if (path / PLAN).is_file()]

    def prepared(self, of: str | ModelPlan) -> Path:
        """Return the folder of the preprocessed cases of a configuration, or of those that a model uses, which configurations may share."""
        name = of if isinstance(of, str) else of.configuration.cases_of or of.configuration_name
        return self.preprocessed / name

    def model(self, configuration: str, network: str, tag: str | None = None) -> ModelFolder:
        """Return the folder of a model; a tag tells trainings with other settings apart.

        Raises:
            InputError: the tag would lead to another folder.
        """
        raise_faults(name_faults("tag", [tag] if tag else []))
        name = f"{configuration}_{network}" + (f"_{tag}" if tag else "")
        return ModelFolder(self.models_folder / name)


def dataset_name(folder: Path) -> str:
    """Return the name of a dataset: that of its folder, without characters that file systems or shells mind."""
    return re.sub(r"[^A-Za-z0-9_.+-]+", "_", Path(folder).resolve().name).lstrip("_.+-") or "dataset"


def find_dataset(dataset: str | Path, work: Path) -> DatasetFolder:
    """Find a planned dataset by its name under `work`, or by the folder of its images.

    Raises:
        InputError: the dataset has not been planned.
    """
    name = dataset_name(Path(dataset)) if Path(dataset).is_dir() else str(dataset)
    candidates = [work / str(dataset), work / name] if "/" not in str(dataset) else [work / name]
    found = next((path for path in candidates if (path / PLAN).is_file()), None)
    if found is None:
        planned = ", ".join(sorted(path.parent.name for path in work.glob(f"*/{PLAN}"))) or "none"
        problem = f"there is no plan {work / name / PLAN} (planned datasets in {work}: {planned})"
        raise InputError(Fault(f"dataset `{dataset}`", problem, "Run se_plan_and_preprocess with the same --work"))
    return DatasetFolder(found)


def validated_fold(folder: Path) -> FoldFolder | None:
    """Return the fold whose validation cases a folder holds; None for any other folder."""
    fold = FoldFolder(folder.resolve().parent)
    is_of_fold = fold.path.name.startswith(_FOLD) and fold.model.plan.is_file()
    return fold if is_of_fold and fold.validation.path == folder.resolve() else None


def weights_in_model(fold: str, checkpoint: str) -> str:
    """Return the path to a weights file relative to the model folder."""
    return ModelFolder(Path()).fold(fold).weights(checkpoint).as_posix()


def parse_weights_name(name: str) -> tuple[str, str] | None:
    """Return fold and checkpoint of a weights file named relative to the model folder; None for any other name."""
    match = _WEIGHTS.fullmatch(name)
    return None if match is None else (match["fold"], match["checkpoint"])
