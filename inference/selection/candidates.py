"""Models of a dataset that were validated on the same cases."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from configs.errors import Fault, InputError, collecting, raise_faults
from configs.files import list_folder, read_json
from configs.folders import ALL, CHECKPOINTS, DatasetFolder, ModelFolder
from inference.evaluation.scores import EvaluationResult, LabelScores, summarise
from preprocessing.store import CaseStore


@dataclass(frozen=True)
class Source:
    """Files of one case: its images, one for each channel or one with all of them, and its reference labels."""

    images: tuple[Path, ...]
    labels: Path


def find_sources(dataset: Path, cases: Iterable[str]) -> dict[str, Source]:
    """The files that the prepared cases were made from.

    Raises:
        InputError: a case is not prepared any more, or its files have gone; every fault is listed.
    """
    stores = [CaseStore(path) for path in list_folder(dataset / "preprocessed", "*") if path.is_dir()]
    sources, faults = {}, []
    for case in cases:
        store = next((store for store in stores if (store.folder / f"{case}.json").is_file()), None)
        if store is None:
            faults.append(Fault(f"case `{case}`", f"it is not in {dataset / 'preprocessed'}", "Run se_plan_and_preprocess"))
            continue
        properties = store.read(case).properties
        if properties.labels is None:
            faults.append(Fault(f"case `{case}`", "it has no label file", "Add it and run se_plan_and_preprocess"))
            continue
        source = Source(tuple(Path(image) for image in properties.images), Path(properties.labels))
        gone = [path for path in (*source.images, source.labels) if not path.is_file()]
        faults += [Fault(f"case `{case}`", f"its file {path} has gone", "Bring it back") for path in gone]
        sources[case] = source
    raise_faults(faults)
    if not sources:
        raise InputError(Fault(str(dataset), "there are no cases", "Run se_plan_and_preprocess"))
    return sources


FINAL = CHECKPOINTS[0]  # what training validates


@dataclass(frozen=True)
class Candidate:
    """One way to predict, with its scores on every validation case.

    Attributes:
        models: folders; several are averaged.
        checkpoint: `final` or `best`.
        folds: fold -> its validation cases, sorted.
        cases: case -> label -> scores, each case by the fold that did not train on it.
        segmentations: case -> label file.
    """

    models: tuple[Path, ...]
    checkpoint: str
    folds: Mapping[str, tuple[str, ...]]
    cases: Mapping[str, dict[str, LabelScores]]
    segmentations: Mapping[str, Path]

    @property
    def name(self) -> str:
        """The models' names, with the checkpoint where it is not the final one."""
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
        """The same on some of the cases."""
        kept = {case: scores for case, scores in self.cases.items() if case in cases}
        return replace(self, cases=kept, segmentations={case: self.segmentations[case] for case in kept})


def find_dataset_folder(work: Path) -> Path:
    """The dataset's folder under WORK: the one given, or the only one with models in it.

    Raises:
        InputError: there is none, or more than one.
    """
    if (work / "models").is_dir():
        return work
    found = [path for path in list_folder(work, "*") if (path / "models").is_dir()]
    if len(found) == 1:
        return found[0]
    problem = f"there are models of {', '.join(path.name for path in found)}" if found else "there are no models in it"
    raise InputError(Fault(str(work), problem, "Give the folder of one dataset, such as se_work/Dataset001_Name"))


def wanted_folds(dataset: Path, folds: Sequence[int | str] | None) -> list[str]:
    """The folds that count: those asked for, or all of `splits.json`."""
    if folds is not None:
        return [str(fold) for fold in folds]
    planned = DatasetFolder(dataset)
    if planned.splits.is_file():
        return [str(fold) for fold in range(len(read_json(planned.splits)))]
    folders = [fold for model in planned.models for fold in model.folds()]
    return sorted({fold.name for fold in folders if fold.validation.metrics.is_file()} - {ALL})


def find_candidates(dataset: Path, folds: Sequence[str]) -> tuple[list[Candidate], list[str]]:
    """Every model that all these folds were validated for, best first, and why others are left out.

    Raises:
        InputError: no model is complete, or files cannot be read.
    """
    complete, left_out = [], []
    faults: list[Fault] = []
    for model in DatasetFolder(dataset).models:
        missing = [fold for fold in folds if not model.fold(fold).validation.metrics.is_file()]
        if missing:
            left_out.append(f"{model.path.name}: fold {', '.join(missing)} not validated")
            continue
        with collecting(faults):
            complete.append(_pool(model, folds))
    raise_faults(faults)
    if not complete:
        problem = f"no model has validated the folds {', '.join(folds) or '(none)'}: {'; '.join(left_out) or 'there is no model'}"
        raise InputError(Fault(str(dataset / "models"), problem, "Train them, or name the folds to compare with --folds"))
    return sorted(complete, key=lambda candidate: -candidate.dice), left_out


def on_common_cases(candidates: Sequence[Candidate]) -> tuple[list[Candidate], int]:
    """The candidates on the cases that all of them have, best first, and how many cases are left out.

    Raises:
        InputError: they have no case in common.
    """
    common = set.intersection(*(set(candidate.cases) for candidate in candidates))
    everything = set.union(*(set(candidate.cases) for candidate in candidates))
    if not common:
        problem = "the models have no validation case in common"
        raise InputError(Fault("the models", problem, "Train them with the same folds"))
    kept = [candidate.only(common) for candidate in candidates]
    return sorted(kept, key=lambda candidate: -candidate.dice), len(everything - common)


def _pool(model: ModelFolder, folds: Sequence[str]) -> Candidate:
    results = {fold: EvaluationResult.read(model.fold(fold).validation.metrics) for fold in folds}
    times = Counter(case for result in results.values() for case in result.cases)
    twice = [case for case, count in times.items() if count > 1]
    if twice:
        problem = f"{len(twice)} cases are validated by several folds, such as {twice[0]}"
        raise InputError(Fault(str(model.path), problem, "Folds must not share validation cases: compare one fold with --folds"))
    cases = {case: scores for result in results.values() for case, scores in result.cases.items()}
    places = {case: model.fold(fold).validation.segmentation(case) for fold, result in results.items() for case in result.cases}
    by_fold = {fold: tuple(sorted(result.cases)) for fold, result in results.items()}
    return Candidate((model.path,), FINAL, by_fold, cases, places)
