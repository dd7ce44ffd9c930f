"""What is to be trained, decided, and what is checked before anything is written."""

from dataclasses import dataclass

import torch

from configs.errors import Fault, InputError
from configs.plan import ConfigurationPlan, NetworkPlan, Plan
from configs.training import TrainingConfig
from preprocessing.store import CaseStore
from trainers.checkpoint import epochs_done
from trainers.folders import FoldFolder, Place
from trainers.previous_stage import PreviousStage
from trainers.settings import check_settings
from trainers.splits import Split


@dataclass(frozen=True)
class Job:
    """One fold of one model, decided: nothing has been written yet.

    Attributes:
        place: the fold's, where it will lie.
        split: its cases.
        plan: one configuration with one network, as it will be trained.
        config: settings.
        device: of the network.
        resume_hint: how to go on after an interruption.
    """

    place: Place
    split: Split
    plan: Plan
    config: TrainingConfig
    device: torch.device
    resume_hint: str

    @property
    def configuration(self) -> ConfigurationPlan:
        """How the data were prepared."""
        return next(iter(self.plan.configurations.values()))

    @property
    def planned(self) -> NetworkPlan:
        """The network as it will be trained."""
        return next(iter(self.configuration.networks.values()))

    @property
    def previous(self) -> PreviousStage | None:
        """What the second network of a cascade sees of the first; None in other configurations."""
        if self.configuration.previous is None:
            return None
        folder = self.place.dataset.path / "preprocessed" / f"{self.place.model.path.name}_previous"
        return PreviousStage(folder, self.plan.dataset.cascade_channels)

    @property
    def store(self) -> CaseStore:
        """The prepared cases."""
        return self.place.dataset.store(self.plan)


def prepare(job: Job, resume: bool, restart: bool) -> None:
    """Check that nothing trained is lost, then write the model's plan and settings.

    Raises:
        InputError: the fold holds a training, and neither `resume` nor `restart` is given, or its settings differ.
    """
    folder, model = job.place.folder, job.place.model
    if resume and restart:
        raise InputError(Fault("--resume and --restart", "they contradict each other", "Give one of them"))
    if folder.is_started and not (resume or restart):
        finished = folder.final_weights.is_file()
        state = "a finished training" if finished else f"a training after {epochs_done(folder.checkpoint)} of its epochs"
        remedy = f"Go on with --resume{' and more --epochs' * finished}, delete it with --restart, or choose another --tag"
        raise InputError(Fault(str(folder.path), f"it holds {state}", remedy))
    if resume and folder.final_weights.is_file() and not folder.checkpoint.is_file():
        problem = f"it holds final weights without {folder.checkpoint.name}, so the training cannot go on"
        raise InputError(Fault(str(folder.path), problem, "Score them with --validate-only, or train anew with --restart"))
    plan_changed = model.plan.is_file() and Plan.read(model.plan) != job.plan
    check_settings(model, job.place.fold, job.config, plan_changed, resume)
    if restart:
        folder.clear()
    folder.tidy()
    job.plan.write(model.plan)
    job.config.write(model.settings)


def require_weights(folder: FoldFolder) -> None:
    """Raises `InputError` where the fold is not trained to its end."""
    if not folder.final_weights.is_file():
        raise InputError(Fault(str(folder.path), f"it holds no {folder.final_weights.name}", "Train the fold to its end first"))
