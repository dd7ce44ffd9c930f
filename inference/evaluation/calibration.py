"""Calibrate the expected Dice of a model that exists, on the validation cases of its folds or on other cases with references."""

import tempfile
from dataclasses import replace
from pathlib import Path

from configs.errors import Fault, InputError, listed, raise_faults
from configs.folders import FoldFolder, ModelFolder
from configs.progress import Progress, Silent
from inference.device import choose_device
from inference.evaluation.label_meanings import contradictions
from inference.evaluation.robustness import HeldOut
from inference.model import Model
from inference.sizes.calibration import Calibration
from inference.sizes.of_model import calibrate_model, can_look, look_at_fold
from preprocessing.dataset.case import Case
from preprocessing.dataset.fold_record import FoldRecord
from preprocessing.dataset.raw import RawDataset, scan_dataset
from preprocessing.dataset.validation import examine
from preprocessing.run import preprocess_dataset
from preprocessing.store import CaseStore


def calibrate_held_out(held_out: HeldOut, progress: Progress | None = None) -> Calibration | None:
    """Calibrate the expected Dice of a model on the validation cases of its folds, and write `calibration.json`.

    Returns None where they are too few.

    Raises:
        InputError: the model, its splits or its cases are missing, or the model cannot be calibrated.
    """
    whole, model = _loaded(held_out)
    store = CaseStore(model.dataset.prepared(whole.plan))
    for fold, cases in held_out.cases_of(whole).items():
        if can_look(model.fold(fold), whole.plan):
            _look(held_out, whole, fold, store, cases, progress)
    return calibrate_model(model, whole.plan)


def calibrate_on_dataset(held_out: HeldOut, dataset: Path, progress: Progress | None = None) -> Calibration | None:
    """Calibrate the expected Dice of a model on the cases of a raw dataset, such as for fold `all` or a model from elsewhere.

    The first chosen fold looks at the cases; other folds keep the looks that they have. Returns None where the cases are too few.
    `held_out.limit` limits the number of cases.

    Raises:
        InputError: the model or a case cannot be used, the dataset has other channels or labels, or the fold trained on one of the cases.
    """
    whole, model = _loaded(held_out)
    fold = next(iter(whole.networks))
    raw = scan_dataset(dataset)
    raise_faults([*_differences(raw, whole), *_trained_cases(raw, model.fold(fold))])
    raw = replace(raw, description=whole.plan.dataset)
    examine(raw, _nothing, progress=progress)
    with tempfile.TemporaryDirectory(prefix="se-unet-") as folder:
        store = preprocess_dataset(raw, whole.plan.whole, whole.plan.configuration_name, Path(folder), progress=progress)
        _look(held_out, whole, fold, store, store.identifiers()[: held_out.limit], progress)
    return calibrate_model(model, whole.plan)


def _loaded(held_out: HeldOut) -> tuple[Model, ModelFolder]:
    """Load the model, or raise `InputError` if it cannot be calibrated."""
    whole, model = held_out.load(), ModelFolder(held_out.model_folder)
    is_second, is_final = whole.plan.configuration.previous is not None, held_out.checkpoint == "final"
    if is_second or not is_final:
        problem = "the second network of a cascade is not calibrated" if is_final else "only final weights are"
        raise InputError(Fault(str(model.path), problem, "Calibrate the final weights of a model that needs no other one"))
    return whole, model


def _look(held_out: HeldOut, whole: Model, fold: str, store: CaseStore, cases: list[str], progress: Progress | None) -> None:
    network = held_out.predictor(whole, fold, (1.0,)).networks[0][0]
    device = choose_device(held_out.device)
    look_at_fold(ModelFolder(held_out.model_folder).fold(fold), network, whole.plan, store, cases, device, progress or Silent())


def _differences(raw: RawDataset, whole: Model) -> list[Fault]:
    """Return a fault for each contradiction between the description of the dataset and that of the model."""
    ours, theirs = whole.plan.dataset, raw.description
    where, remedy = f"{raw.folder}/dataset.json", "Give cases with the channels and labels of the model"
    faults = [Fault(where, f"{problem}, the model", remedy) for problem in contradictions(theirs, ours)]
    if theirs.annotated:
        faults.append(Fault(where, "some cases lack the annotation of labels", "Give cases in which all labels were annotated"))
    if ours.channels != theirs.channels:
        faults.append(Fault(where, f"the channels are {theirs.channels}, and those of the model {ours.channels}", remedy))
    return faults


def _trained_cases(raw: RawDataset, fold: FoldFolder) -> list[Fault]:
    """Return a fault if the fold trained on cases of these names; a model from elsewhere may have no record."""
    known = set(FoldRecord.read(fold.split).training) if fold.split.is_file() else set()
    same = sorted(known & set(raw.cases))
    if not same:
        return []
    problem = f"fold {fold.name} trained on cases of the same names: {listed(same)}"
    return [Fault(str(raw.folder), problem, "Give cases that the model does not know, or rename them if they are other ones")]


def _nothing(case: Case) -> None:
    del case
