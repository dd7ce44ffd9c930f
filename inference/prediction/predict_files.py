"""Segment image files: read and preprocess, compute, and write in parallel, case by case."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs.progress import Progress, Silent, ticking
from inference.engine.assemble import Segmentation, Wanted
from inference.prediction.outputs import Extras, plan_outputs, write_case
from inference.prediction.read_compute_write import Stages, run_stages
from inference.predictor import Predictor, Prepared
from preprocessing.formats.images import doubts, read_image
from preprocessing.geometry.affine import Geometry

logger = logging.getLogger(__name__)
__all__ = ["Extras", "plan_outputs", "predict_cases"]


@dataclass
class _Loaded:
    """A case between the stages."""

    prepared: Prepared | None  # input of the networks, freed after use
    image: NDArray[np.float32] | None  # stored image, if an output needs it
    geometry: Geometry  # geometry of the image
    segmentation: Segmentation | None = None  # segmentation, once computed


def predict_cases(
    predictor: Predictor,
    cases: Mapping[str, tuple[Path, ...]],
    outputs: Mapping[str, Path],
    extras: Extras | None = None,
    progress: Progress | None = None,
) -> dict[str, Exception]:
    """Segment files. If a case fails, the others continue.

    Args:
        predictor: predictor with the models.
        cases: image files of each case, one per channel or one with all channels.
        outputs: path of each case's segmentation, written atomically with exactly the geometry of the case's first image.
        extras: outputs beside the segmentations.
        progress: progress display over the cases, or over the tiles if there is only one case.

    Returns:
        The error of each case that failed.
    """
    extras, progress = extras or Extras(), progress or Silent()
    wanted = Wanted(probabilities=extras.probabilities, uncertainty=extras.uncertainty, roi=extras.roi)
    within, around = (progress, Silent()) if len(cases) == 1 else (None, progress)

    def read(case: str) -> _Loaded:
        image, geometry = read_image(cases[case])
        for doubt in doubts(cases[case]):
            logger.warning("case `%s`, %s", case, doubt)
        prepared = predictor.prepare(image, geometry, f"case `{case}`")
        return _Loaded(prepared, image if extras.need_the_image else None, geometry)

    def compute(case: str, loaded: _Loaded) -> _Loaded:
        del case
        if loaded.prepared is None:
            raise ValueError("the case was computed already")
        loaded.segmentation = predictor.segment_prepared(loaded.prepared, wanted, within)
        loaded.prepared = None
        return loaded

    def write(case: str, loaded: _Loaded) -> None:
        if loaded.segmentation is None:
            raise ValueError("the case was not computed")
        like, description = cases[case][0], predictor.description
        write_case(outputs[case], loaded.segmentation, loaded.image, loaded.geometry, like, description, extras)

    with ticking(around, "Segmenting", len(cases)) as tick:
        return run_stages(cases, Stages(read, compute, write), tick)
