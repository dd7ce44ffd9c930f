"""One run of se_predict: everything is checked first, then the cases are segmented."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from configs.errors import Fault, InputError, collecting, counted, raise_faults
from configs.progress import Progress
from inference.engine.assemble import check_roi
from inference.options import PredictionOptions
from inference.outputs.dicom.cases import InputCases, dicom_cases
from inference.outputs.dicom.segmentation import kind_faults
from inference.outputs.quality_table import gather_quality
from inference.prediction.case_list import list_cases
from inference.prediction.cluster import predict_on_cluster
from inference.prediction.command import PredictCommand, check_input
from inference.prediction.estimate import estimate_prediction
from inference.prediction.outputs import dicom_file, plan_outputs
from inference.prediction.predict_files import predict_cases
from inference.prediction.record import FILE, ModelRecord, PredictionRecord, in_folder, record_of
from inference.predictor import Predictor
from inference.trial import try_network
from preprocessing.dataset.by_products import FEATURES, STATISTICS
from preprocessing.dicom.find import is_dicom
from preprocessing.formats.registry import stem_of
from preprocessing.tables import gather
from se_unet.cpu.allocator import keep_freed_memory

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictionJob:
    """A run whose input has been checked; nothing has been written yet."""

    command: PredictCommand  # what was asked for
    predictor: Predictor  # the models on their device
    cases: dict[str, tuple[Path, ...]]  # identifier -> image files of the cases to segment
    outputs: dict[str, Path]  # identifier -> segmentation file of every case of the input, also of those left out of this run
    record: PredictionRecord  # how the segmentations are made
    refused: tuple[Fault, ...] = ()  # DICOM series of the input that cannot be segmented, which were told

    @property
    def folder(self) -> Path:
        """Folder of the segmentations."""
        return folder_of(self.outputs)


def folder_of(outputs: Mapping[str, Path]) -> Path:
    """Return the folder of all segmentations."""
    return next(iter(outputs.values())).parent


def prepare_job(command: PredictCommand, room: Path) -> PredictionJob:
    """Load the models, find the cases, and check everything that can be checked before any image is read.

    The folder `room` is for lists of DICOM series; it lasts as long as the job.

    Raises:
        InputError: options, models, device or input cannot be used, or outputs would collide; every fault is listed.
    """
    predictor, faults = _load_predictor(command), list[Fault]()
    with collecting(faults):
        check_roi(predictor.description, command.extras.roi)
    with collecting(faults):
        command.extras.postprocessing.check(predictor.description)
    faults += kind_faults(command.extras.dicom, predictor.description)
    with collecting(faults):
        found = _find_cases(command, predictor, room)
    raise_faults(faults)
    outputs = plan_outputs(found.files, command.output, command.extras)
    record = record_of(predictor, command.models.folders, command.models.checkpoint, command.extras)
    record = in_folder(record, folder_of(outputs), command.skip_existing)
    names = list(found.files)[command.part :: command.parts]
    cases = {
        case: found.files[case] for case in names if not (command.skip_existing and _is_done(outputs[case], record, command))
    }
    if len(cases) < len(names):
        logger.info("%d of %d cases already have a segmentation", len(names) - len(cases), len(names))
    return PredictionJob(_with_digest(command, record), predictor, cases, outputs, record, found.refused)


def _is_done(output: Path, record: PredictionRecord, command: PredictCommand) -> bool:
    """Whether a segmentation of the same models and options is there, as a DICOM segmentation too where one is asked for."""
    return record.is_of_these(output) and (command.extras.dicom is None or dicom_file(output).is_file())


def _find_cases(command: PredictCommand, predictor: Predictor, room: Path) -> InputCases:
    do_refer = command.extras.dicom is not None
    if is_dicom(command.input):
        raise_faults(_dicom_faults(command))
        return dicom_cases(command.input, predictor.description, room, do_refer)
    if do_refer:
        problem = "the input has no DICOM series that a DICOM segmentation could refer to"
        raise InputError(Fault("--dicom", problem, "Give a DICOM file, folder or ZIP file after -i, or leave it out"))
    return InputCases(list_cases(command.input, predictor.description), ())


def _dicom_faults(command: PredictCommand) -> Iterator[Fault]:
    """Yield a fault for each option that does not go with a DICOM input."""
    if command.scheduler is not None:
        problem = "DICOM series are read by this process alone"
        yield Fault(f"--scheduler {command.scheduler}", problem, "Leave it out, or convert with se_dicom convert")
    if command.output.resolve() == command.input.resolve():
        problem = "the segmentations would lie among the DICOM files"
        yield Fault(str(command.output), problem, "Choose another output folder")


def _with_digest(command: PredictCommand, record: PredictionRecord) -> PredictCommand:
    """The command with the checksum of the models, which DICOM segmentations state."""
    if command.extras.dicom is None:
        return command
    return replace(command, extras=replace(command.extras, dicom=replace(command.extras.dicom, model=record.digest())))


def _load_predictor(command: PredictCommand) -> Predictor:
    """Load the models; faults of the command line are found together with those of the models."""
    faults, options = list[Fault](), PredictionOptions()
    with collecting(faults):
        options = command.given.options()
    with collecting(faults):
        predictor = command.models.load(options)
    with collecting(faults):
        check_input(command)
    raise_faults(faults)
    _try_networks(predictor)
    if predictor.device.type == "cpu":
        keep_freed_memory()
    return predictor


def _try_networks(predictor: Predictor) -> None:
    """Try the networks of custom classes on one patch each, or raise `InputError`."""
    for model, networks in zip(predictor.models, predictor.networks, strict=True):
        named = model.plan.network.network_class
        for network in networks if named is not None else []:
            try_network(network, model.plan, f"network class `{named}`")


def run_job(job: PredictionJob, progress: Progress) -> dict[str, Exception]:
    """Segment the cases and write what was asked for. A case that fails does not stop the others.

    Returns:
        The cases that failed, each with its error.
    """
    failures = _segment(job, progress) if job.cases else {}
    cases = {stem_of(output) for output in job.outputs.values()}
    for is_wanted, ending in ((job.command.extras.statistics, STATISTICS), (job.command.extras.features, FEATURES)):
        if is_wanted:
            gather(job.folder, cases, ending)
    if gather_quality(job.folder, cases) is None:
        logger.info("expected Dice: not calibrated; se_evaluate -m MODEL --calibrate makes it known")
    return failures


def _segment(job: PredictionJob, progress: Progress) -> dict[str, Exception]:
    command, predictor, extras = job.command, job.predictor, job.command.extras
    logger.info("%s", _describe(job))
    job.folder.mkdir(parents=True, exist_ok=True)
    job.record.write(job.folder / FILE)
    if command.scheduler is not None:
        options = predictor.options
        return predict_on_cluster(command.models, options, job.cases, job.outputs, extras, command.scheduler, progress)
    if not command.quiet:
        estimate = estimate_prediction(predictor, job.cases, extras)
        logger.info("%s", estimate)
        if estimate.memory > estimate.free:
            logger.warning("this may exceed the available memory; use fewer folds or scales")
    return predict_cases(predictor, job.cases, job.outputs, extras, progress)


def _sizes(model: ModelRecord) -> str:
    return "the size found in each image" if model.search else counted(len(model.scales), "scale")


def _describe(job: PredictionJob) -> str:
    record, parts = job.record, []
    for model, loaded in zip(record.models, job.predictor.models, strict=True):
        reflections = counted(loaded.plan.network.reflections if model.mirror_axes else 1, "reflection")
        members = f"{counted(len(model.folds), 'fold')} x {_sizes(model)} x {reflections}"
        parts.append(f"{members}, tiles of {' x '.join(map(str, loaded.plan.network.patch_size))}")
    return f"{counted(len(job.cases), 'case')} on {job.predictor.device}: {'; '.join(parts)}; step {record.step:g}"
