"""Score weights on whole volumes during training: the last weights and their average."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from configs.dataset import DatasetDescription
from configs.files import read_json, write_json
from configs.plan import ModelPlan
from inference import PredictionOptions, Predictor
from inference.engine.assemble import Wanted
from inference.evaluation.scores import score_case
from inference.model import Model
from preprocessing.dataset.labels import to_class_indices
from preprocessing.dataset.raw import CaseFiles, find_cases, open_dataset
from preprocessing.formats.images import read_image, read_labels
from se_unet.weights import save_weights
from trainers.loop import Trainer
from trainers.monitoring.history import EpochRecord

KINDS = ("raw", "averaged")
SCORED_EVERY = 2  # epochs
RECORD = "record.json"  # beside the weights of a fold
OPTIONS = PredictionOptions(mirror=False, scales=(1.0,))


@dataclass(frozen=True)
class Scores:
    """Scores of one network on many cases.

    Attributes:
        dice: case -> mean Dice of its labels.
        loss: mean over the cases of cross-entropy minus Dice of the probabilities.
    """

    dice: dict[str, float]
    loss: float

    @property
    def mean(self) -> float:
        """Mean Dice over the cases."""
        return float(np.mean(list(self.dice.values())))


@dataclass
class Record:
    """Results of a run, in a file that is rewritten with each part.

    Attributes:
        path: path to the file.
        content: facts, `curve` (one entry for each epoch), and Dice of cases.
    """

    path: Path
    content: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> "Record":
        """Return the present content of the file."""
        return cls(path, read_json(path) if path.is_file() else {})

    def put_point(self, step: int, values: Mapping[str, float]) -> None:
        """Set values of the curve at a step, and replace former ones."""
        curve = {point["step"]: point for point in self.content.get("curve", [])}
        curve[step] = curve.get(step, {"step": step}) | dict(values)
        self.put(curve=[curve[key] for key in sorted(curve)])

    def put(self, **values: Any) -> None:
        """Set values."""
        self.content |= values
        write_json(self.path, self.content)


def scored(epoch: int, epochs: int) -> bool:
    """Return whether whole volumes are predicted after an epoch, counted from 1."""
    return epoch % SCORED_EVERY == 0 or epoch == epochs


def score(plan: ModelPlan, network: nn.Module, cases: Mapping[str, CaseFiles]) -> Scores:
    """Predict whole volumes at one scale, without reflections.

    Args:
        plan: plan of the network.
        network: trained network.
        cases: cases with their references.
    """
    was_training = network.training
    predictor = Predictor(Model(plan, {"0": network}), "cpu", OPTIONS)
    dice, losses = {}, []
    for identifier, files in cases.items():
        if files.labels is None:
            raise ValueError(f"case {identifier} has no truth")
        image, geometry = read_image(list(files.images))
        truth, _ = read_labels(files.labels)
        answer = predictor.segment(image, geometry, Wanted(probabilities=True), where=identifier)
        labels = score_case(answer.labels, truth, predictor.description, geometry.spacing)
        dice[identifier] = float(np.mean([one.dice for one in labels.values() if one.dice is not None]))
        if answer.probabilities is not None:
            losses.append(loss_of(answer.probabilities, truth, predictor.description))
    network.train(was_training)
    return Scores(dice, float(np.mean(losses)))


def loss_of(probabilities: NDArray[np.float32], truth: NDArray[np.integer], description: DatasetDescription) -> float:
    """Return the training loss of the finest stage on a whole volume: cross-entropy minus the mean soft Dice of the foreground."""
    classes = to_class_indices(truth, description)
    members = np.stack([classes == index for index in range(len(probabilities))])
    entropy = -np.log(np.clip((probabilities * members).sum(0), 1e-7, None)).mean()
    shared, total = (probabilities * members).sum((1, 2, 3)), (probabilities + members).sum((1, 2, 3))
    return float(entropy - np.mean((2 * shared / np.clip(total, 1e-7, None))[1:]))


def test_cases(dataset: Path) -> dict[str, CaseFiles]:
    """Return the cases of `imagesTs` with `labelsTs`, which only the last table uses."""
    raw = open_dataset(dataset)
    images = find_cases(dataset / "imagesTs", raw.description)
    ending = raw.description.file_ending
    return {case: CaseFiles(files, dataset / "labelsTs" / f"{case}{ending}") for case, files in images.items()}


def put_scores(record: Record, step: int, scores: Mapping[str, Scores], last: bool) -> None:
    """Set a point of the curve, and the Dice of each case where it is the last one."""
    values: dict[str, float] = {}
    for kind, one in scores.items():
        values |= {f"dice_{kind}": one.mean, f"validation_loss_{kind}": one.loss}
    record.put_point(step, values)
    if last:
        record.put(validation={kind: one.dice for kind, one in scores.items()})


class CurveTrainer(Trainer):
    """Keep the weights of each epoch and their average, and score both on all validation cases every second epoch."""

    def _run_epoch(self) -> EpochRecord:
        result = super()._run_epoch()
        job, learner = self._parts.job, self._parts.learner
        if learner.average is None:
            raise ValueError("this trainer compares weights with their average: set weight_average")
        networks = {"raw": learner.network, "averaged": learner.average.module}
        folder, epochs = job.fold.path, job.config.epochs
        record = Record.open(folder / RECORD)
        step = result.epoch * job.config.iterations
        record.put_point(step, {"training_loss": result.training_loss, "seconds": result.seconds})
        for kind, network in networks.items():
            save_weights(network, folder / f"weights_{kind}_{result.epoch:03d}.safetensors")
        if scored(result.epoch, epochs):
            cases = {name: self._files(name) for name in job.split.validation}
            scores = {kind: score(job.plan, network, cases) for kind, network in networks.items()}
            put_scores(record, step, scores, last=result.epoch == epochs)
        return result

    def _files(self, identifier: str) -> CaseFiles:
        """Return the files from which a prepared case was made."""
        properties: Any = self._parts.job.store.read(identifier).properties
        return CaseFiles(tuple(map(Path, properties.images)), Path(properties.labels))
