"""Segmentation of image files: read, segment, write; one case at a time, each by itself."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from configs.errors import Fault, InputError, raise_faults
from configs.files import replacing
from configs.progress import Progress, Silent
from inference.predictor import Predictor
from inference.segmentation import Segmentation, Wanted
from preprocessing.formats import DETACHED, ending_of, stem_of
from preprocessing.geometry import Geometry
from preprocessing.images import read_image, write_labels
from preprocessing.orientation import find_orientation

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Extras:
    """What is written beside a segmentation.

    Attributes:
        probabilities: `<case>_probabilities.npz` with `probabilities` (K, Z, Y, X) float32 on the image's grid and `names` (K,).
        preview: `<case>_preview.png`, slices with outlines.
    """

    probabilities: bool = False
    preview: bool = False


def plan_outputs(cases: Mapping[str, tuple[Path, ...]], output: Path) -> dict[str, Path]:
    """Where each case's segmentation goes: a file named as the case, with its image's ending, in the folder `output`.

    Where `output` ends like an image file, it is that file, and there must be one case.

    Raises:
        InputError: several cases for one file, or a segmentation that would replace an image.
    """
    if ending_of(output):
        if len(cases) > 1:
            remedy = "Give a folder as output"
            raise InputError(Fault(str(output), f"one file cannot hold the segmentations of {len(cases)} cases", remedy))
        outputs = dict.fromkeys(cases, output)
    else:
        outputs = {case: output / f"{case}{_output_ending(files[0])}" for case, files in cases.items()}
    sources = {file.resolve() for files in cases.values() for file in files}
    raise_faults(
        Fault(f"case `{case}`", f"its segmentation would replace the image {target}", "Choose another output folder")
        for case, target in outputs.items()
        if target.resolve() in sources
    )
    return outputs


def predict_cases(
    predictor: Predictor,
    cases: Mapping[str, tuple[Path, ...]],
    outputs: Mapping[str, Path],
    extras: Extras | None = None,
    progress: Progress | None = None,
) -> dict[str, Exception]:
    """Segment files. A case that fails is reported and left out; the others go on.

    Args:
        predictor: the model.
        cases: identifier -> its image files, one for each channel or one with all of them.
        outputs: identifier -> file to write, whole or not at all; it gets the geometry of the case's first image to the bit.
        extras: what else to write.
        progress: shows the cases done; the tiles, where there is only one case.

    Returns:
        The cases that failed, with the reason of each.
    """
    progress = progress or Silent()
    within = progress if len(cases) == 1 else None
    failures: dict[str, Exception] = {}
    tracked = cases.items() if len(cases) == 1 else progress.track(cases.items(), "Segmenting", len(cases))
    for case, files in tracked:
        try:
            _predict_case(predictor, case, files, outputs[case], extras or Extras(), within)
        except Exception as error:  # whatever fails in one case must not stop the others
            logger.debug("traceback of case `%s`", case, exc_info=True)
            failures[case] = error
    return failures


def _predict_case(
    predictor: Predictor, case: str, files: tuple[Path, ...], output: Path, extras: Extras, progress: Progress | None
) -> None:
    image, geometry = read_image(files)
    segmentation = predictor.segment(
        image, geometry, Wanted(probabilities=extras.probabilities), where=f"case `{case}`", progress=progress
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    beside = output.with_name(stem_of(output))
    if extras.probabilities:
        _write_probabilities(beside.with_name(f"{beside.name}_probabilities.npz"), segmentation, predictor)
    if extras.preview:
        _write_preview(beside.with_name(f"{beside.name}_preview.png"), image, geometry, segmentation, predictor)
    write_labels(output, segmentation.labels, geometry, like=files[0])  # last: where it exists, the case is done


def _write_probabilities(path: Path, segmentation: Segmentation, predictor: Predictor) -> None:
    description = predictor.description
    names = description.foreground if description.has_regions else ("background", *description.foreground)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, probabilities=np.asarray(segmentation.probabilities), names=np.array(names))


def _write_preview(path: Path, image: np.ndarray, geometry: Geometry, segmentation: Segmentation, predictor: Predictor) -> None:
    from inference.montage import montage  # matplotlib is slow to import and seldom needed

    turn = find_orientation(geometry, "canonical")
    labels = predictor.description.labels
    names = {value: name for name, value in labels.items() if isinstance(value, int)}
    spacing = turn.apply_geometry(geometry).spacing
    montage(turn.apply(image[0]), turn.apply(segmentation.labels), path, spacing=spacing, names=names)


def _output_ending(image: Path) -> str:
    """The ending of a segmentation: that of its image; one file where the image has its data in a second one."""
    ending = ending_of(image) or ".nii.gz"
    return {".nhdr": ".nrrd", ".mhd": ".mha"}[ending] if ending in DETACHED else ending
