"""Compare all cross-validated models, and choose how to predict."""

import itertools
import logging
import math
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.errors import Fault, InputError, raise_faults
from configs.folders import CHECKPOINTS, ModelFolder
from configs.outputs import file_faults
from configs.plan import ModelPlan
from configs.progress import Progress, Silent
from inference.model import find_weights
from inference.prediction.postprocessing import Postprocessing, Rule
from inference.prediction.selection import FILE, RuleGain, ScoredCandidate, Selection, relative_to_file
from inference.selection.candidates import (
    FINAL,
    Candidate,
    find_candidates,
    find_dataset_folder,
    find_sources,
    on_common_cases,
    wanted_folds,
)
from inference.selection.cleaning import Gain, choose_rules
from inference.selection.predicted import predict_candidate

_logger = logging.getLogger(__name__)
_TIE = 1e-4  # of mean Dice, by which an average of models must be better, since it costs more


@dataclass(frozen=True)
class SelectionOptions:
    """Options of a selection.

    Attributes:
        folds: folds to compare; None takes all of splits.json.
        ensembles: number of best models whose pairs are averaged, predicting their validation cases again; below 2 none.
        checkpoints: whether to also compare the best checkpoints, predicting their validation cases.
        postprocessing: whether to look for postprocessing rules.
        device: device for predictions; None takes the best available.
        jobs: number of processes for postprocessing.
    """

    folds: tuple[int | str, ...] | None = None
    ensembles: int = 0
    checkpoints: bool = False
    postprocessing: bool = True
    device: str | None = None
    jobs: int = 1


def select(
    work: str | Path, output: str | Path | None = None, options: SelectionOptions | None = None, progress: Progress | None = None
) -> tuple[Path, Selection]:
    """Choose configuration, network, checkpoint, ensemble and postprocessing by mean foreground Dice over all validation cases.

    Args:
        work: dataset folder in WORK, or WORK itself if it has one dataset.
        output: path of the selection file; None takes `selection.json` in the dataset folder.
        options: options of the selection.
        progress: progress display over the cases.

    Returns:
        The path of the selection file, and its content.

    Raises:
        InputError: there is nothing to compare, or files are missing; all faults are listed.
    """
    options, progress = options or SelectionOptions(), progress or Silent()
    dataset = find_dataset_folder(Path(work))
    path = Path(output or dataset / FILE)
    raise_faults(file_faults(path))
    folds = wanted_folds(dataset, options.folds)
    singles, left_out = find_candidates(dataset, folds)
    predicted = _predict_others(dataset, singles, folds, options, progress)
    candidates, missing = on_common_cases([*singles, *predicted])
    if missing:
        left_out.append(f"{missing} cases that not all models validated")
    chosen = _choose(candidates)
    rules: dict[str, Rule] = {}
    gains: dict[str, Gain] = {}
    if options.postprocessing:
        description = ModelPlan.read(ModelFolder(chosen.models[0]).plan).dataset
        sources = find_sources(dataset, chosen.cases)
        rules, gains = choose_rules(chosen.segmentations, sources, description, options.jobs, progress)
    selection = Selection(
        models=relative_to_file(chosen.models, path),
        folds=tuple(folds),
        checkpoint="final" if chosen.checkpoint == FINAL else "best",
        postprocessing=Postprocessing(rules=rules),
        command=shlex.join(["se_predict", "-i", "INPUT", "-o", "OUTPUT", "--selection", str(path.resolve())]),
        cases=len(chosen.cases),
        candidates=tuple(_scored(candidate, chosen) for candidate in candidates),
        gains={
            name: RuleGain(before=gain.before, after=gain.after, better=gain.better, worse=gain.worse)
            for name, gain in gains.items()
        },
        left_out=tuple(left_out),
    )
    selection = selection.model_copy(update={"networks": selection.weights_of_now(path)})
    selection.write(path)
    return path, selection


def _predict_others(
    dataset: Path, singles: Sequence[Candidate], folds: Sequence[str], options: SelectionOptions, progress: Progress
) -> list[Candidate]:
    """Predict best checkpoints and averages of pairs."""
    wanted: list[tuple[tuple[Candidate, ...], str]] = []
    if options.checkpoints:
        wanted += [((candidate,), CHECKPOINTS[1]) for candidate in singles]
    wanted += [(pair, FINAL) for pair in itertools.combinations(singles[: max(options.ensembles, 0)], 2)]
    wanted = [(parts, checkpoint) for parts, checkpoint in wanted if _can_be_predicted(parts, checkpoint, folds)]
    predicted = []
    for parts, checkpoint in wanted:
        models = tuple(part.models[0] for part in parts)
        folder = dataset / "selection" / _name(parts, checkpoint)
        sources = find_sources(dataset, parts[0].cases)
        predicted.append(predict_candidate(folder, models, checkpoint, parts[0].folds, sources, options.device, progress))
    return predicted


def _can_be_predicted(parts: Sequence[Candidate], checkpoint: str, folds: Sequence[str]) -> bool:
    """Return whether all weights exist, no model needs another's segmentation, and the models have the same folds."""
    reason = None
    for model in (part.models[0] for part in parts):
        try:
            find_weights(model, list(folds), checkpoint)
        except InputError as error:
            reason = str(error.faults[0])
        plan = ModelPlan.read(ModelFolder(model).plan)
        if plan.configuration.previous is not None:
            reason = f"{model.name} needs the segmentation of another model"
        if plan.network.network_class is not None:
            reason = f"{model.name} uses a custom network class, which is not imported here"
    if any(part.folds != parts[0].folds for part in parts):
        reason = "the folds of its models differ"
    if reason is not None:
        _logger.warning("%s is not compared: %s", _name(parts, checkpoint), reason)
    return reason is None


def _name(parts: Sequence[Candidate], checkpoint: str) -> str:
    return "+".join(part.models[0].name for part in parts) + f"_{checkpoint}"


def _choose(candidates: Sequence[Candidate]) -> Candidate:
    """Return the candidate with the highest Dice, or a single model unless an average is clearly better."""
    if not candidates:
        raise InputError(Fault("the models", "there are no candidates", "Train a model"))
    best = candidates[0].dice
    return min((candidate for candidate in candidates if candidate.dice >= best - _TIE), key=lambda one: len(one.models))


def _scored(candidate: Candidate, chosen: Candidate) -> ScoredCandidate:
    differences = [
        first - second
        for case in chosen.cases
        if (first := _case_dice(chosen, case)) is not None and (second := _case_dice(candidate, case)) is not None
    ]
    error = statistics.stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else None
    return ScoredCandidate(
        name=candidate.name,
        dice=candidate.dice,
        labels={label: means["dice"].value for label, means in candidate.result.means.items()},
        behind=statistics.fmean(differences) if differences else 0.0,
        error=error,
    )


def _case_dice(candidate: Candidate, case: str) -> float | None:
    """Return the mean Dice over the labels of a case for which it is defined."""
    defined = [scores.dice for scores in candidate.cases[case].values() if scores.dice is not None]
    return statistics.fmean(defined) if defined else None
