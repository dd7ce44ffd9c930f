"""Segmentation of image files: reading and preparing, the networks, and writing side by side, each case by itself."""

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
from preprocessing.formats.images import read_image
from preprocessing.geometry.affine import Geometry

__all__ = ["Extras", "plan_outputs", "predict_cases"]


@dataclass
class _Loaded:
    """A case between the stages.

    Attributes:
        prepared: what the networks see; let go once they have.
        image: as stored, where something is to be measured or drawn in it.
        geometry: of the image.
        segmentation: the answer, once it is there.
    """

    prepared: Prepared | None
    image: NDArray[np.float32] | None
    geometry: Geometry
    segmentation: Segmentation | None = None


def predict_cases(
    predictor: Predictor,
    cases: Mapping[str, tuple[Path, ...]],
    outputs: Mapping[str, Path],
    extras: Extras | None = None,
    progress: Progress | None = None,
) -> dict[str, Exception]:
    """Segment files. A case that fails is reported and left out; the others go on.

    Args:
        predictor: the models.
        cases: identifier -> its image files, one for each channel or one with all of them.
        outputs: identifier -> file to write, whole or not at all; it gets the geometry of the case's first image to the bit.
        extras: what else to write.
        progress: shows the cases done; the tiles, where there is only one case.

    Returns:
        The cases that failed, with the reason of each.
    """
    extras, progress = extras or Extras(), progress or Silent()
    wanted = Wanted(probabilities=extras.probabilities, uncertainty=extras.uncertainty, roi=extras.roi)
    within, around = (progress, Silent()) if len(cases) == 1 else (None, progress)

    def read(case: str) -> _Loaded:
        image, geometry = read_image(cases[case])
        prepared = predictor.prepare(image, geometry, f"case `{case}`")
        return _Loaded(prepared, image if extras.preview or extras.statistics else None, geometry)

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
