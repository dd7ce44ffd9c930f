"""From the words of se_predict's command line to typed settings."""

import argparse
from pathlib import Path
from typing import Literal

from configs.errors import Fault, InputError, collecting, raise_faults
from inference.device import choose_device
from inference.model import load_models
from inference.options import CONFIDENCE, FAST, PredictionOptions
from inference.prediction.outputs import Extras
from inference.prediction.postprocessing import Postprocessing
from inference.prediction.selection import Selection
from inference.predictor import Predictor, load_first_stage


def load_predictor(arguments: argparse.Namespace) -> Predictor:
    """The models on their device.

    Raises:
        InputError: models, device or options cannot be used; every fault is listed.
    """
    faults: list[Fault] = []
    with collecting(faults):
        device = choose_device(arguments.device)
    with collecting(faults):
        options = options_of(arguments)
    with collecting(faults):
        folds = None if arguments.folds == ["all"] else arguments.folds
        models = load_models(arguments.model, folds, arguments.checkpoint, arguments.network_class)
    raise_faults(faults)
    return Predictor(models, device, options, load_first_stage(models, arguments.model, device, arguments.checkpoint, options))


def follow_selection(arguments: argparse.Namespace) -> Postprocessing:
    """Take models, folds and checkpoint from the file of --selection, where it is given; its postprocessing is returned.

    Raises:
        InputError: neither models nor a selection are given, or both, or the file cannot be used.
    """
    if (arguments.model is None) == (arguments.selection is None):
        problem = "neither is given" if arguments.model is None else "both are given"
        raise InputError(Fault("--model and --selection", problem, "Give model folders, or a file that se_select wrote"))
    if arguments.selection is None:
        return Postprocessing()
    selection = Selection.read(arguments.selection)
    arguments.model = selection.model_folders(arguments.selection)
    arguments.checkpoint = selection.checkpoint
    arguments.folds = list(selection.folds) if arguments.folds == ["all"] else arguments.folds
    return selection.postprocessing


def options_of(arguments: argparse.Namespace) -> PredictionOptions:
    """What the command line says about sliding window and ensembling; --fast decides where it says nothing.

    Raises:
        InputError: a value out of range, or options that contradict each other.
    """
    if arguments.fast and arguments.scales is None and arguments.scale_weights == [CONFIDENCE]:
        problem = "--fast segments at one scale, and confidence chooses among several"
        remedy = "Leave one of the two out, or say with --scales which scales"
        raise InputError(Fault("--fast and --scale-weights confidence", problem, remedy))
    given = FAST if arguments.fast else PredictionOptions()
    try:
        return PredictionOptions(
            mirror=given.mirror if arguments.mirror is None else arguments.mirror,
            scales=given.scales if arguments.scales is None else _parse_scales(arguments.scales),
            scale_weights=None if arguments.scale_weights is None else parse_weights(arguments.scale_weights),
            step=given.step if arguments.step_size is None else arguments.step_size,
            tile_batch=arguments.tile_batch,
            average=arguments.average,
        )
    except ValueError as error:
        raise InputError(Fault("the options", str(error), "See se_predict --help")) from error


def extras_of(arguments: argparse.Namespace, postprocessing: Postprocessing) -> Extras:
    """What is written beside the segmentations."""
    return Extras(
        probabilities=arguments.save_probabilities,
        uncertainty=arguments.save_uncertainty,
        preview=arguments.preview,
        statistics=arguments.statistics,
        roi=None if arguments.roi is None else tuple(arguments.roi),
        postprocessing=postprocessing,
    )


def check_input(arguments: argparse.Namespace) -> None:
    """Raise `InputError` where there is no such input, or no such part of the cases."""
    faults = []
    if not arguments.input.exists():
        faults.append(Fault(str(arguments.input), "there is no such file or folder", "Check the path after -i"))
    if not 0 <= arguments.part_id < arguments.num_parts:
        problem = f"part {arguments.part_id} of {arguments.num_parts} does not exist"
        faults.append(Fault("--part-id", problem, "Parts are numbered from 0 to --num-parts less 1"))
    raise_faults(faults)


def resolved(folders: list[Path]) -> list[str]:
    """Folders as they are recorded, independent of where the command ran."""
    return [str(folder.resolve()) for folder in folders]


def parse_weights(words: list[str]) -> tuple[float, ...] | Literal["confidence"]:
    """Weights of scales as typed.

    Raises:
        ValueError: neither numbers nor `confidence`.
    """
    return CONFIDENCE if words == [CONFIDENCE] else tuple(float(word) for word in words)


def _parse_scales(words: list[str]) -> tuple[float, ...] | None:
    if words == ["plan"]:
        return None
    return (1.0,) if words == ["none"] else tuple(float(word) for word in words)
