"""The selection file, which says what was selected and why, and which se_predict follows."""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field

from configs.files import Value
from configs.folders import ModelFolder
from configs.run_log import digest
from inference.prediction.postprocessing import Postprocessing

FILE = "selection.json"
ALONE = "."  # the model in whose folder the file lies


class ScoredCandidate(Value):
    """Scores of one candidate."""

    name: str  # names of the models, and the checkpoint unless it is the final one
    dice: float  # mean foreground Dice over all cases
    labels: dict[str, float | None]  # mean Dice of each label; None if undefined
    behind: float  # mean difference to the chosen candidate over cases
    error: float | None  # standard error of that mean; None with fewer than two cases


class RuleGain(Value):
    """Mean Dice of a label before and after its rule, and the number of cases that gained and lost."""

    before: float
    after: float
    better: int
    worse: int


class Selection(Value):
    """How to predict, and the comparison behind it."""

    version: Literal[1] = 1  # version of the file format
    models: tuple[str, ...] = Field(min_length=1)  # model folders relative to this file; several are averaged
    folds: tuple[str, ...] = Field(min_length=1)  # folds whose weights are averaged
    checkpoint: Literal["final", "best"]  # `final` or `best`
    postprocessing: Postprocessing  # rules for the segmentations
    command: str  # equivalent command line of se_predict
    cases: int  # number of validation cases on which the candidates were compared
    candidates: tuple[ScoredCandidate, ...]  # candidates, best first
    gains: dict[str, RuleGain]  # gains by the postprocessing rules, on the cases that chose them
    left_out: tuple[str, ...] = ()  # models that could not be compared, with reasons
    networks: dict[str, str] = Field(default_factory=dict)  # SHA-256 of the weights, by model and fold; empty if unknown

    def weights_of_now(self, path: Path) -> dict[str, str]:
        """Return what `networks` is for the present weights, given the path of this selection file."""
        folders = dict(zip(self.models, map(ModelFolder, self.model_folders(path)), strict=True))
        return {
            f"{model}, fold {fold}": digest(folder.fold(fold).weights(self.checkpoint))
            for model, folder in folders.items()
            for fold in self.folds
        }

    def model_folders(self, path: Path) -> list[Path]:
        """Return the paths of the model folders, given the path of this selection file."""
        return [Path(os.path.normpath(path.parent / model)) for model in self.models]


def relative_to_file(models: tuple[Path, ...], path: Path) -> tuple[str, ...]:
    """Return model folders relative to the selection file at `path`."""
    return tuple(Path(os.path.relpath(model.resolve(), path.resolve().parent)).as_posix() for model in models)
