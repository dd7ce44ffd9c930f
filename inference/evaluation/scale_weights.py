"""Learn the weights of scale ensembling on validation cases, by maximum likelihood.

With p_t(v), the probability that the prediction at scale t gives to the true class of voxel v, the weights maximise
`sum_v log sum_t w_t p_t(v)`, w_t >= 0, sum_t w_t = 1. The problem is concave, and expectation maximisation needs no step size:
`w_t <- mean_v w_t p_t(v) / sum_s w_s p_s(v)`. Each class contributes at most the same number of voxels, so that background does not
dominate.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from configs.errors import Fault, InputError, raise_faults
from configs.folders import ModelFolder
from configs.outputs import file_faults
from configs.progress import Progress, Silent
from inference.engine.assemble import Wanted
from inference.evaluation.robustness import HeldOut, load_validation_case
from inference.model import ScaleEnsemble, weights_digests

VOXELS = 2000  # per class and case
ROUNDS = 200
SMALLEST = 1e-6  # smallest probability


def learn_scale_weights(held_out: HeldOut, scales: Sequence[float], progress: Progress | None = None) -> ScaleEnsemble:
    """Learn the weights and save them with the model as `scales.json`. Arguments and errors are as for `scale_robustness`."""
    scales_file = ModelFolder(held_out.model_folder).scales
    raise_faults(file_faults(scales_file))
    whole = held_out.load()
    if whole.plan.dataset.has_regions:
        raise InputError(
            Fault(str(held_out.model_folder), "weights cannot be learned for regions, which overlap", "Give the weights yourself")
        )
    cases = [(fold, case) for fold, names in held_out.cases_of(whole).items() for case in names]
    rows = []
    for fold, name in (progress or Silent()).track(cases, "Predicting at every scale", len(cases)):
        case = load_validation_case(held_out.model_folder, whole.plan, fold, name)
        chosen = _sample(case.indices, len(whole.plan.dataset.values))
        columns = []
        for factor in scales:
            predictor = held_out.predictor(whole, fold, (factor,))
            found = predictor.segment(case.image, case.geometry, Wanted(probabilities=True)).probabilities
            if found is None:
                raise RuntimeError("the predictor returned no probabilities")
            columns.append(found[(case.indices[chosen], *chosen)])
        rows.append(np.stack(columns, 1))
    ensemble = ScaleEnsemble(
        scales=tuple(scales),
        weights=mixture_weights(np.concatenate(rows)),
        cases=len(cases),
        networks=weights_digests(held_out.model_folder, list(whole.networks), held_out.checkpoint),
    )
    ensemble.write(scales_file)
    return ensemble


def mixture_weights(probabilities: NDArray[np.floating]) -> tuple[float, ...]:
    """Return the weights that maximise the likelihood of a mixture.

    Args:
        probabilities: probabilities of the true class (voxels, members).
    """
    likely = np.maximum(np.asarray(probabilities, dtype=np.float64), SMALLEST)
    weights = np.full(likely.shape[1], 1 / likely.shape[1])
    for _ in range(ROUNDS):
        shares = likely * weights
        weights = (shares / shares.sum(1, keepdims=True)).mean(0)
    return tuple(float(weight) for weight in weights / weights.sum())


def _sample(indices: NDArray[np.int16], classes: int) -> tuple[NDArray[np.int64], ...]:
    """Return the indices of at most `VOXELS` voxels of each class."""
    random = np.random.default_rng(0)
    chosen = []
    for index in range(classes):
        places = np.flatnonzero(indices == index)
        chosen.append(places if len(places) <= VOXELS else random.choice(places, VOXELS, replace=False))
    return np.unravel_index(np.concatenate(chosen), indices.shape)
