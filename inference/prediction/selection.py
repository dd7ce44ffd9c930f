"""What was selected and why, as a file that se_predict follows."""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field

from configs.files import Value
from inference.prediction.postprocessing import Postprocessing

FILE = "selection.json"


class ScoredCandidate(Value):
    """One of the candidates.

    Attributes:
        name: models, and the checkpoint where it is not the final one.
        dice: mean foreground Dice over all cases.
        labels: label -> mean Dice; None where it is undefined.
        behind: mean over cases by which it is behind the chosen one.
        error: standard error of that mean, from the same cases; None with fewer than two.
    """

    name: str
    dice: float
    labels: dict[str, float | None]
    behind: float
    error: float | None


class RuleGain(Value):
    """Mean Dice of a label before and after its rule, and the cases that gained and lost."""

    before: float
    after: float
    better: int
    worse: int


class Selection(Value):
    """How to predict.

    Attributes:
        version: of this format.
        models: folders, relative to this file; several are averaged.
        folds: whose weights are averaged.
        checkpoint: `final` or `best`.
        postprocessing: of the segmentations.
        command: of se_predict, which does all this.
        cases: validation cases on which the candidates were compared.
        candidates: best first.
        gains: of the postprocessing's rules, on the cases that chose them.
        left_out: models that could not be compared, with the reason.
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
        """The model folders, from where this selection's file lies."""
        return [Path(os.path.normpath(path.parent / model)) for model in self.models]


def relative_to_file(models: tuple[Path, ...], path: Path) -> tuple[str, ...]:
    """Model folders as they are written into the file."""
    return tuple(Path(os.path.relpath(model.resolve(), path.resolve().parent)).as_posix() for model in models)
