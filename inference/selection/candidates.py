"""Find the models of a dataset that were validated on the same cases."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from configs.errors import Fault, InputError, collecting, raise_faults
from configs.files import list_folder
from configs.folders import ALL, CHECKPOINTS, DatasetFolder, ModelFolder
from inference.evaluation.scores import EvaluationResult, LabelScores, summarise
from inference.evaluation.validated import is_outdated, raise_if_seen, read_scores
from preprocessing.dataset.splits import read_splits
from preprocessing.store import CaseStore


@dataclass(frozen=True)
class CaseSource:
    """Files of one case: its images, one per channel or one with all channels, and its reference labels."""

    images: tuple[Path, ...]
    labels: Path
    annotated: tuple[str, ...] | None = None  # labels that were annotated; None for all


def find_sources(dataset: Path, cases: Iterable[str]) -> dict[str, CaseSource]:
    """Return the original files of prepared cases.

    Raises:
        InputError: a case is not prepared, or its files are missing; all faults are listed.
    """
    preprocessed = DatasetFolder(dataset).preprocessed
    stores = [CaseStore(path) for path in list_folder(preprocessed, "*") if path.is_dir()]
    sources, faults = {}, []
    for case in cases:
        store = next((store for store in stores if (store.folder / f"{case}.json").is_file()), None)
        if store is None:
            faults.append(Fault(f"case `{case}`", f"not in {preprocessed}", "Run se_plan_and_preprocess"))
            continue
        properties = store.read(case).properties
        if properties.labels is None:
            faults.append(Fault(f"case `{case}`", "the case has no label file", "Add one and run se_plan_and_preprocess"))
            continue
        source = CaseSource(tuple(Path(image) for image in properties.images), Path(properties.labels), properties.annotated)
        gone = [path for path in (*source.images, source.labels) if not path.is_file()]
        faults += [Fault(f"case `{case}`", f"{path} is missing", "Restore the file") for path in gone]
        sources[case] = source
    raise_faults(faults)
    if not sources:
        raise InputError(Fault(str(dataset), "there are no cases", "Run se_plan_and_preprocess"))
    return sources


FINAL = CHECKPOINTS[0]  # the checkpoint that training validates


@dataclass(frozen=True)
class Candidate:
    """One way to predict, with its scores on every validation case."""

    models: tuple[Path, ...]  # model folders; several are averaged
    checkpoint: str  # `final` or `best`
    folds: Mapping[str, tuple[str, ...]]  # sorted validation cases of each fold
    cases: Mapping[str, dict[str, LabelScores]]  # scores by case and label; a case is predicted by the fold that validates it
    segmentations: Mapping[str, Path]  # path to the label file of each case

    @property
    def name(self) -> str:
        """Names of the models, with the checkpoint unless it is the final one."""
        return " + ".join(model.name for model in self.models) + (f" ({self.checkpoint})" if self.checkpoint != FINAL else "")

    @property
    def result(self) -> EvaluationResult:
        """Means over all cases."""
        return summarise(self.cases)

    @property
    def dice(self) -> float:
        """Mean foreground Dice; 0 where it is undefined."""
        return self.result.mean_foreground_dice or 0.0

    def only(self, cases: set[str]) -> "Candidate":
        """Return the candidate restricted to some of the cases."""
        kept = {case: scores for case, scores in self.cases.items() if case in cases}
        return replace(self, cases=kept, segmentations={case: self.segmentations[case] for case in kept})


def find_dataset_folder(work: Path) -> Path:
    """Return the dataset folder in WORK: the given one, or the only one with models.

    Raises:
        InputError: there is none, or more than one.
    """
    if DatasetFolder(work).models_folder.is_dir():
        return work
    found = [path for path in list_folder(work, "*") if DatasetFolder(path).models_folder.is_dir()]
    if len(found) == 1:
        return found[0]
    problem = f"models of several datasets: {', '.join(path.name for path in found)}" if found else "no models in this folder"
    raise InputError(Fault(str(work), problem, "Give the folder of one dataset, such as se_work/Dataset001_Name"))


def wanted_folds(dataset: Path, folds: Sequence[int | str] | None) -> list[str]:
    """Return the requested folds, or all of `splits.json`."""
    if folds is not None:
        return [str(fold) for fold in folds]
    planned = DatasetFolder(dataset)
    if planned.splits.is_file():
        return [str(fold) for fold in range(len(read_splits(planned.splits)))]
    folders = [fold for model in planned.models for fold in model.folds()]
    return sorted({fold.name for fold in folders if fold.validation.metrics.is_file()} - {ALL})


def find_candidates(dataset: Path, folds: Sequence[str]) -> tuple[list[Candidate], list[str]]:
    """Return every model for which all these folds were validated, best first, and why others are left out.

    Raises:
        InputError: no model is complete, or files cannot be read.
    """
    complete, left_out = [], []
    faults: list[Fault] = []
    for model in DatasetFolder(dataset).models:
        missing = [fold for fold in folds if not model.fold(fold).validation.metrics.is_file()]
        outdated = [fold for fold in folds if fold not in missing and is_outdated(model.fold(fold))]
        if missing or outdated:
            reasons = {"not validated": missing, "validated with other weights than it has now": outdated}
            left_out += [f"{model.path.name}: fold {', '.join(some)} {reason}" for reason, some in reasons.items() if some]
            continue
        with collecting(faults):
            complete.append(_pool(model, folds))
    raise_faults(faults)
    if not complete:
        problem = f"no model was validated on all of the folds {', '.join(folds) or '(none)'}: {'; '.join(left_out) or 'there is no model'}"
        raise InputError(
            Fault(str(DatasetFolder(dataset).models_folder), problem, "Train them, or give the folds to compare with --folds")
        )
    return sorted(complete, key=lambda candidate: -candidate.dice), left_out


def on_common_cases(candidates: Sequence[Candidate]) -> tuple[list[Candidate], int]:
    """Return the candidates restricted to their common cases, best first, and the number of other cases.

    Raises:
        InputError: they have no common case.
    """
    common = set.intersection(*(set(candidate.cases) for candidate in candidates))
    everything = set.union(*(set(candidate.cases) for candidate in candidates))
    if not common:
        problem = "the models have no validation case in common"
        raise InputError(Fault("the models", problem, "Train them with the same folds"))
    kept = [candidate.only(common) for candidate in candidates]
    return sorted(kept, key=lambda candidate: -candidate.dice), len(everything - common)


def _pool(model: ModelFolder, folds: Sequence[str]) -> Candidate:
    results = {fold: read_scores(model.fold(fold)) for fold in folds}
    faults: list[Fault] = []
    for fold, result in results.items():
        with collecting(faults):
            raise_if_seen(model.fold(fold), result.cases)
    raise_faults(faults)
    times = Counter(case for result in results.values() for case in result.cases)
    twice = [case for case, count in times.items() if count > 1]
    if twice:
        problem = f"{len(twice)} cases are validated by several folds, such as {twice[0]}"
        raise InputError(Fault(str(model.path), problem, "Compare one fold with --folds: folds must not share cases"))
    cases = {case: scores for result in results.values() for case, scores in result.cases.items()}
    places = {case: model.fold(fold).validation.segmentation(case) for fold, result in results.items() for case in result.cases}
    by_fold = {fold: tuple(sorted(result.cases)) for fold, result in results.items()}
    return Candidate((model.path,), FINAL, by_fold, cases, places)
