"""Measure the scale equivariance of a trained network over a range of factors, on its validation cases and on random fields.

`e(a) = mean |f(L_a x) - L_a f(x)|^2 / var(L_a f(x))`, where L_a enlarges about a voxel by cubic B-splines; mean and variance run over
voxels and classes. On cases, f gives class probabilities; on fields, class scores, as in `se_unet.equivariance`.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn

from configs.errors import tolerating
from configs.files import Value
from configs.folders import ALL, ModelFolder
from configs.plan import ModelPlan, NetworkPlan
from configs.progress import Progress, Silent
from inference.device import choose_device
from inference.evaluation.robustness import validation_cases
from inference.model import Model, find_weights, load_model
from preprocessing.store import CaseStore, StoredCase
from se_unet.equivariance import equivariance_error
from se_unet.separable import apply_separable, gaussian_matrix, interpolation_matrix

FACTORS: tuple[float, ...] = (0.7, 0.8, 0.9, 1.1, 1.25, 1.4)
SIZE = 64  # largest number of voxels along each side: equal for all networks, and affordable without a GPU
COMPARED = 0.6  # share of each side that is compared, about the centre; the rest is a margin
CASES = 3
_BLUR = 1.0  # voxels; removes detail that a shrunken grid cannot hold
_FIELD_SMOOTHING = 3.0
_FIELD_SEEDS = (0, 1)
_METHOD = 1  # incremented when the measurement changes


class EquivarianceCurve(Value):
    """Equivariance errors by factor: 0 for an equivariant network, about 1 if sizes are unrelated."""

    method: int  # version of the measurement; results of another version are measured again
    fold: str  # fold whose weights were measured
    weights: str  # SHA-256 digest of the weights file
    factors: tuple[float, ...] = Field(min_length=1)  # factors of enlargement
    cases: int = Field(ge=0)  # number of measured validation cases; 0 if they are no longer available
    shape: tuple[int, int, int]  # shape (Z, Y, X) of the network's input in voxels
    on_cases: tuple[float, ...] | None  # errors of the class probabilities on cases, or None
    on_fields: tuple[float, ...] | None  # errors of the class scores on smooth random fields, or None

    @property
    def shown(self) -> tuple[float, ...] | None:
        """Errors on cases, or else those on fields."""
        return self.on_cases or self.on_fields

    @property
    def mean(self) -> float | None:
        """Mean error over the factors."""
        return sum(self.shown) / len(self.shown) if self.shown else None


def obstacle(plan: ModelPlan) -> str | None:
    """Return why the error of a model with this plan cannot be measured, or None if it can."""
    configuration, planned = plan.configuration, plan.network
    if configuration.slice_axis is not None:
        return "The measurement is for networks of volumes, and this network segments single slices."
    if configuration.previous is not None:
        return "The measurement is not for the second network of a cascade, whose input includes another network's segmentation."
    if planned.network_class is not None:
        return "The model uses a custom network class, whose code a report does not run."
    if max(planned.network.total_stride) > SIZE:
        return f"The network's strides do not fit a grid of {SIZE} voxels."
    return None


def equivariance_curve(
    folder: Path,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
    folds: Sequence[int | str] | None = None,
    checkpoint: str = "final",
) -> EquivarianceCurve:
    """Return the errors of a model's first fold, or the first of these folds, from `equivariance.json` in its folder if current.

    The model is one without an `obstacle`. A result without cases is measured again once the cases are available.

    Raises:
        InputError: there are no weights, or they do not fit the plan.
    """
    fold, weights = next(iter(find_weights(folder, folds, checkpoint).items()))
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    path = ModelFolder(folder).equivariance
    kept = read_curve(path)
    is_current = kept is not None and (kept.method, kept.fold, kept.weights) == (_METHOD, fold, digest)
    images = validation_images(folder, ModelPlan.read(ModelFolder(folder).plan), fold)
    if kept is not None and is_current and (kept.cases or not images):
        return kept
    model = load_model(folder, [fold], checkpoint)
    curve = _measure(model, fold, digest, list(images.values()), choose_device(device), progress or Silent())
    curve.write(path)
    return curve


def read_curve(path: Path) -> EquivarianceCurve | None:
    """Read a measured equivariance error. Returns None if the file is missing, damaged, or of another version of this software.

    Raises:
        InputError: the system cannot read the file.
    """
    with tolerating():
        return EquivarianceCurve.read(path)
    return None


def is_of_other_version(data: Any) -> bool:
    """Return whether the JSON of an equivariance error has the fields of another version of this software."""
    try:
        EquivarianceCurve.model_validate(data)
    except ValidationError:
        return isinstance(data, dict)
    return False


@torch.no_grad()
def case_errors(
    function: Callable[[Tensor], Tensor],
    images: Sequence[tuple[Tensor, Sequence[int]]],
    shape: Sequence[int],
    origin: Sequence[int],
    factors: Sequence[float],
    progress: Progress | None = None,
) -> tuple[float, ...]:
    """Return the error for each factor on images enlarged about a voxel; outside its border an image repeats its last voxels.

    Args:
        function: function (1, C, *shape) -> (1, K, *shape).
        images: images (C, Z, Y, X) float32, each with the voxel (Z, Y, X) to enlarge about.
        shape: shape (Z, Y, X) of the function's input.
        origin: position of that voxel in the input, on the grid of the function's stride.
        factors: factors of enlargement; above 1 the content grows.
        progress: progress display over the images.

    Returns:
        Squared differences divided by variances, both summed over images; infinity if an output is constant.
    """
    reach = [max(1, int(COMPARED * size / 2)) for size in shape]
    windows = [torch.arange(-length, length + 1, dtype=torch.float64) for length in reach]
    pick = [_look(window + start, size, 1) for window, start, size in zip(windows, origin, shape, strict=True)]
    sums = torch.zeros(2, len(factors), dtype=torch.float64)
    for image, centre in (progress or Silent()).track(images, "Measuring scale equivariance on cases", len(images)):
        natural = function(_seen(image, centre, shape, origin, 1.0)[None])[0].cpu()
        for index, factor in enumerate(factors):
            look = [_look(window / factor + start, size, 3) for window, start, size in zip(windows, origin, shape, strict=True)]
            enlarged = function(_seen(image, centre, shape, origin, factor)[None])[0].cpu()
            expected, received = apply_separable(natural, look).double(), apply_separable(enlarged, pick).double()
            sums[0, index] += (received - expected).square().mean()
            sums[1, index] += expected.var()
    return tuple(error / variance if variance > 0 else math.inf for error, variance in zip(*sums.tolist(), strict=True))


def _look(positions: Tensor, size: int, order: int) -> Tensor:
    return interpolation_matrix(positions, size, order).float()


def _seen(image: Tensor, centre: Sequence[int], shape: Sequence[int], origin: Sequence[int], factor: float) -> Tensor:
    """Return the image (C, *shape) enlarged about `centre`, which moves to `origin`."""
    matrices = []
    for axis, (size, start, voxel) in enumerate(zip(shape, origin, centre, strict=True), start=1):
        positions = voxel + (torch.arange(size, dtype=torch.float64) - start) / factor
        matrices.append(_look(positions, image.shape[axis], 3))
    return apply_separable(image, matrices)


def seen_grid(planned: NetworkPlan) -> tuple[tuple[int, int, int], list[int]]:
    """Return the shape (Z, Y, X) of a network's input, and the voxel in it to enlarge about."""
    stride = planned.network.total_stride
    z, y, x = (min(size, SIZE // step * step) for size, step in zip(planned.patch_size, stride, strict=True))
    return (z, y, x), [size // 2 // step * step for size, step in zip((z, y, x), stride, strict=True)]


def probability_function(network: nn.Module, has_regions: bool, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return a function from an image (1, C, Z, Y, X) to probabilities (1, K, Z, Y, X) on the device."""

    def probabilities(image: Tensor) -> Tensor:
        scores = network(image.to(device)).float()
        return torch.sigmoid(scores) if has_regions else scores.softmax(1)

    return probabilities


def _measure(
    model: Model, fold: str, digest: str, images: list[tuple[Tensor, list[int]]], device: torch.device, progress: Progress
) -> EquivarianceCurve:
    network = model.networks[fold].to(device).eval()
    planned, stride = model.plan.network, model.plan.network.network.total_stride
    shape, origin = seen_grid(planned)
    function = probability_function(network, model.plan.dataset.has_regions, device)
    on_cases = case_errors(function, images, shape, origin, FACTORS, progress) if images else ()
    on_fields = []
    if not any(SIZE % step for step in stride):
        for factor in progress.track(FACTORS, "Measuring scale equivariance on random fields", len(FACTORS)):
            on_fields.append(_field_error(network, device, planned.network.input_channels, max(stride), factor))
    usable = [all(map(math.isfinite, errors)) and bool(errors) for errors in (on_cases, on_fields)]
    return EquivarianceCurve(
        method=_METHOD,
        fold=fold,
        weights=digest,
        factors=FACTORS,
        cases=len(images),
        shape=shape,
        on_cases=on_cases if usable[0] else None,
        on_fields=tuple(on_fields) if usable[1] else None,
    )


def _field_error(network: Callable[[Tensor], Tensor], device: torch.device, channels: int, stride: int, factor: float) -> float:
    def scores(image: Tensor) -> Tensor:
        return network(image.to(device)).float().cpu()

    try:
        return equivariance_error(
            scores, factor, channels=channels, size=SIZE, stride=stride, smoothing=_FIELD_SMOOTHING, seeds=_FIELD_SEEDS
        )
    except ZeroDivisionError:  # the network's output is constant
        return math.inf


def validation_images(folder: Path, plan: ModelPlan, fold: str) -> dict[str, tuple[Tensor, list[int]]]:
    """Return some prepared validation cases, each with the centre voxel of its labels; none if they are no longer available."""
    if fold == ALL:
        return {}
    store = CaseStore(ModelFolder(folder).dataset.prepared(plan))
    with tolerating():
        chosen = validation_cases(folder, fold)[:CASES]
        return {case: _around_labels(store.read(case)) for case in chosen}
    return {}


def _around_labels(case: StoredCase) -> tuple[Tensor, list[int]]:
    """Return the blurred part of the image visible at the smallest factor about the labels' centre, and the centre in it."""
    labelled = np.argwhere(case.labels[:] > 0)
    sizes = case.image.shape[1:]
    centre = np.rint(labelled.mean(axis=0)).astype(int).tolist() if len(labelled) else [size // 2 for size in sizes]
    reach = math.ceil(SIZE / 2 / min(FACTORS)) + math.ceil(8 * _BLUR)
    starts = [max(0, middle - reach) for middle in centre]
    box = tuple(slice(start, middle + reach) for start, middle in zip(starts, centre, strict=True))
    image = torch.from_numpy(case.image[(slice(None), *box)])
    blurs = [gaussian_matrix(size, _BLUR).float() for size in image.shape[1:]]
    return apply_separable(image, blurs), [middle - start for middle, start in zip(centre, starts, strict=True)]
