"""The selection file, which says what was selected and why, and which se_predict follows."""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field

from configs.files import Value
from inference.prediction.postprocessing import Postprocessing

FILE = "selection.json"


class ScoredCandidate(Value):
    """Scores of one candidate.

    Attributes:
        name: names of the models, and the checkpoint unless it is the final one.
        dice: mean foreground Dice over all cases.
        labels: mean Dice of each label; None if undefined.
        behind: mean difference to the chosen candidate over cases.
        error: standard error of that mean; None with fewer than two cases.
    """

    name: str
    dice: float
    labels: dict[str, float | None]
    behind: float
    error: float | None


class RuleGain(Value):
    """Mean Dice of a label before and after its rule, and the number of cases that gained and lost."""

    before: float
    after: float
    better: int
    worse: int


class Selection(Value):
    """How to predict, and the comparison behind it.

    Attributes:
        version: version of the file format.
        models: model folders relative to this file; several are averaged.
        folds: folds whose weights are averaged.
        checkpoint: `final` or `best`.
        postprocessing: rules for the segmentations.
        command: equivalent command line of se_predict.
        cases: number of validation cases on which the candidates were compared.
        candidates: candidates, best first.
        gains: gains by the postprocessing rules, on the cases that chose them.
        left_out: models that could not be compared, with reasons.
    """

    version: Literal[1] = 1
    models: tuple[str, ...] = Field(min_length=1)
    folds: tuple[str, ...] = Field(min_length=1)
    checkpoint: Literal["final", "best"]
    postprocessing: Postprocessing
    command: str
    cases: int
    candidates: tuple[ScoredCandidate, ...]
    gains: dict[str, RuleGain]
    left_out: tuple[str, ...] = ()

    def model_folders(self, path: Path) -> list[Path]:
        """Return the paths of the model folders, given the path of this selection file."""
        return [Path(os.path.normpath(path.parent / model)) for model in self.models]


def relative_to_file(models: tuple[Path, ...], path: Path) -> tuple[str, ...]:
    """Return model folders relative to the selection file at `path`."""
    return tuple(Path(os.path.relpath(model.resolve(), path.resolve().parent)).as_posix() for model in models)
