"""Where things lie: a dataset's folder under WORK, a model's folder, a fold's folder."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from configs.errors import Fault, InputError
from configs.plan import Plan


@dataclass(frozen=True)
class TrainingRecords:
    """What shows how the training of a fold went. None of it is needed to go on or to predict."""

    path: Path

    @property
    def log(self) -> Path:
        """One row for each epoch."""
        return self.path / "log.csv"

    @property
    def picture(self) -> Path:
        """The log as curves."""
        return self.path / "progress.png"

    @property
    def preview(self) -> Path:
        """Patches before and after augmentation."""
        return self.path / "preview.png"

    def clear(self) -> None:
        """Delete them."""
        for file in (self.log, self.picture, self.preview):
            file.unlink(missing_ok=True)


@dataclass(frozen=True)
class ValidationFolder:
    """Segmentations of a fold's validation cases, and their scores."""

    path: Path

    @property
    def metrics(self) -> Path:
        """The scores."""
        return self.path / "metrics.json"

    def segmentation(self, identifier: str) -> Path:
        """Of a case."""
        return self.path / f"{identifier}.nii.gz"

    def clear(self) -> None:
        """Delete the folder."""
        if self.path.is_dir():
            shutil.rmtree(self.path)


@dataclass(frozen=True)
class FoldFolder:
    """Files of one trained fold."""

    path: Path

    @property
    def checkpoint(self) -> Path:
        """State of the training after its last whole epoch, or where it was interrupted."""
        return self.path / "checkpoint_latest.pt"

    @property
    def final_weights(self) -> Path:
        """Weights at the end: where they exist, the training is finished."""
        return self.path / "weights_final.safetensors"

    @property
    def best_weights(self) -> Path:
        """Weights at the best epoch."""
        return self.path / "weights_best.safetensors"

    @property
    def records(self) -> TrainingRecords:
        """Log and pictures."""
        return TrainingRecords(self.path)

    @property
    def validation(self) -> ValidationFolder:
        """Segmentations of the fold's validation cases."""
        return ValidationFolder(self.path / "validation")

    @property
    def is_started(self) -> bool:
        """Whether a training has left anything to lose."""
        return self.checkpoint.is_file() or self.final_weights.is_file()

    def tidy(self) -> None:
        """Delete what a killed process left half written."""
        for folder in (self.path, self.validation.path):
            for file in folder.glob(".partial-*"):
                file.unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete what a training wrote; other files stay."""
        self.tidy()
        for file in (self.final_weights, self.checkpoint, self.best_weights):
            file.unlink(missing_ok=True)
        self.records.clear()
        self.validation.clear()


@dataclass(frozen=True)
class ModelFolder:
    """A trained model: plan, settings and folds."""

    path: Path

    @property
    def plan(self) -> Path:
        """One configuration with one network."""
        return self.path / "plan.json"

    @property
    def settings(self) -> Path:
        """The training settings."""
        return self.path / "training.json"

    def fold(self, fold: int | str) -> FoldFolder:
        """A fold's folder."""
        return FoldFolder(self.path / f"fold_{fold}")

    def other_folds(self, fold: int | str) -> list[str]:
        """Names of the folds besides this one that a training has written to."""
        names = sorted(path.name.removeprefix("fold_") for path in self.path.glob("fold_*"))
        return [name for name in names if name != str(fold) and self.fold(name).is_started]


@dataclass(frozen=True)
class DatasetFolder:
    """A dataset under WORK."""

    path: Path

    @property
    def plan(self) -> Path:
        """Of all configurations and networks."""
        return self.path / "plan.json"

    @property
    def splits(self) -> Path:
        """The folds."""
        return self.path / "splits.json"

    def prepared(self, plan: Plan) -> Path:
        """Prepared cases of a plan's first configuration, which may share them with another one."""
        name, configuration = next(iter(plan.configurations.items()))
        return self.path / "preprocessed" / (configuration.cases_of or name)

    def model(self, configuration: str, network: str, tag: str | None = None) -> ModelFolder:
        """Folder of a model; a tag tells trainings with other settings apart."""
        name = f"{configuration}_{network}" + (f"_{tag}" if tag else "")
        return ModelFolder(self.path / "models" / name)


@dataclass(frozen=True)
class Place:
    """Where a fold of a model lies.

    Attributes:
        dataset: its folder under WORK.
        model: its folder.
        fold: a number, or "all".
    """

    dataset: DatasetFolder
    model: ModelFolder
    fold: int | str

    @property
    def folder(self) -> FoldFolder:
        """Folder of the fold."""
        return self.model.fold(self.fold)

    def __str__(self) -> str:
        return f"{self.dataset.path.name}/{self.model.path.name}/fold_{self.fold}"


def dataset_name(folder: Path) -> str:
    """Name of a dataset, for folders: that of its own folder, without signs that file systems or shells mind."""
    return re.sub(r"[^A-Za-z0-9_.+-]+", "_", Path(folder).resolve().name).lstrip("_.+-") or "dataset"


def find_dataset(dataset: str | Path, work: Path) -> DatasetFolder:
    """The planned dataset under WORK.

    Args:
        dataset: its name under `work`, or the folder of its images.
        work: where plans and models are kept.

    Raises:
        InputError: it has not been planned.
    """
    name = dataset_name(Path(dataset)) if Path(dataset).is_dir() else str(dataset)
    candidates = [work / str(dataset), work / name] if "/" not in str(dataset) else [work / name]
    found = next((path for path in candidates if (path / "plan.json").is_file()), None)
    if found is None:
        planned = ", ".join(sorted(path.parent.name for path in work.glob("*/plan.json"))) or "none"
        problem = f"there is no plan {work / name / 'plan.json'} (planned datasets in {work}: {planned})"
        raise InputError(Fault(f"dataset `{dataset}`", problem, "Run se_plan_and_preprocess with the same --work"))
    return DatasetFolder(found)
