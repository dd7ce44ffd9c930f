"""What se_predict is asked to do, as typed values."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from configs.errors import Fault, InputError, collecting, listed, raise_faults
from configs.outputs import file_faults, folder_faults
from configs.plan import Average
from inference.device import choose_device
from inference.model import chosen_folds, load_models
from inference.options import FAST, PredictionOptions, Search
from inference.prediction.outputs import Extras
from inference.prediction.postprocessing import Postprocessing
from inference.prediction.selection import Selection
from inference.predictor import Predictor, load_first_stage
from preprocessing.formats.registry import ending_of

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelChoice:
    """Trained models that predict together."""

    folders: tuple[Path, ...]  # model folders; several models are averaged
    folds: tuple[str, ...] | None = None  # names of the folds to average; None takes every trained fold
    checkpoint: str = "final"  # `final` or `best`
    device: str | None = None  # name of the device, such as `cuda:1`; None takes the best available one
    network_class: str | None = None  # `package.module:Class` of a custom network class, whose code then runs

    def load(self, options: PredictionOptions) -> Predictor:
        """Load the models, and the first stage of a cascade, onto the device.

        Raises:
            InputError: the device or a model cannot be used; every fault is listed.
        """
        faults: list[Fault] = []
        with collecting(faults):
            device = choose_device(self.device)
        with collecting(faults):
            models = load_models(self.folders, self.folds, self.checkpoint, self.network_class)
        raise_faults(faults)
        return Predictor(models, device, options, load_first_stage(models, self.folders, device, self.checkpoint, options))


@dataclass(frozen=True)
class GivenOptions:
    """Options of the sliding window and of ensembling as given on the command line; None where nothing is given."""

    fast: bool = False  # take what is not given from `inference.options.FAST`
    mirror: bool | None = None  # average over mirror images
    search: Search | None = None  # whether to search the size of the anatomy
    scales: tuple[float, ...] | None = None  # scale factors to average over instead
    scale_weights: tuple[float, ...] | None = None  # weights of the scale factors
    step: float | None = None  # largest distance of neighbouring tiles, as a share of the patch
    tile_batch: int | None = None  # tiles per forward pass
    average: Average | None = None  # what is averaged

    def options(self) -> PredictionOptions:
        """Return the options of the prediction.

        Raises:
            InputError: a value is out of range, or options contradict each other.
        """
        given = {name: value for name, value in vars(self).items() if name != "fast" and value is not None}
        try:
            return replace(FAST if self.fast else PredictionOptions(), **given)
        except ValueError as error:
            raise InputError(Fault("the options", str(error), "See se_predict --help")) from error


@dataclass(frozen=True)
class PredictCommand:
    """What se_predict is asked to do."""

    input: Path  # image file, folder of images, or list of cases
    output: Path  # folder of the segmentations; or a file, for one case
    models: ModelChoice  # trained models
    given: GivenOptions  # options of the sliding window and of ensembling
    extras: Extras  # further outputs, and postprocessing
    scheduler: str | None = None  # address of the Dask scheduler whose workers predict; None predicts in this process
    skip_existing: bool = False  # skip cases that already have a segmentation
    part: int = 0  # part of the cases to predict, from 0
    parts: int = 1  # number of parts
    quiet: bool = False  # show warnings and errors only


def choose_models(given: ModelChoice, selection: Path | None) -> tuple[ModelChoice, Postprocessing]:
    """Return the models to predict with, and the postprocessing of their segmentations.

    `given` has the words of `--folds`. A file of se_select gives models and checkpoint, and the folds unless these are given.

    Raises:
        InputError: neither or both of models and selection are given, or the file cannot be used.
    """
    if bool(given.folders) == (selection is not None):
        problem = "both are given" if given.folders else "neither is given"
        raise InputError(Fault("--model and --selection", problem, "Give either model folders or a file that se_select wrote"))
    if selection is None:
        return replace(given, folds=chosen_folds(given.folds, given.folders)), Postprocessing()
    chosen = Selection.read(selection)
    now = chosen.weights_of_now(selection) if chosen.networks else {}  # files without them need no reading of weights
    changed = [name for name, weights in chosen.networks.items() if weights != now[name]]
    if changed:
        _logger.warning("%s was chosen with other weights of %s; run se_select again", selection, listed(changed))
    folders = tuple(chosen.model_folders(selection))
    folds = chosen_folds(given.folds or chosen.folds, folders)
    return replace(given, folders=folders, folds=folds, checkpoint=chosen.checkpoint), chosen.postprocessing


def check_input(command: PredictCommand) -> None:
    """Raise `InputError` if the input or the part of the cases does not exist, or nothing can be written to the output."""
    faults = [*(file_faults(command.output) if ending_of(command.output) else folder_faults(command.output))]
    if not command.input.exists():
        faults.append(Fault(str(command.input), "no such file or folder", "Check the path after -i"))
    if not 0 <= command.part < command.parts:
        problem = f"part {command.part} of {command.parts} does not exist"
        faults.append(Fault("--part-id", problem, "Parts are numbered from 0 to --num-parts less 1"))
    raise_faults(faults)
