"""Estimate time and memory of a prediction from image headers and one timed tile."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import psutil
import torch

from configs.errors import InputError
from configs.fingerprint import Shape
from inference.device import in_precision, peak_memory, seconds_of
from inference.engine.capacity import first_half
from inference.engine.ensemble import count_tiles
from inference.engine.heads import split_network
from inference.engine.scaling import scaled_shape
from inference.engine.sliding_window import HALF_ABOVE, padding
from inference.model import Model
from inference.options import Variants
from inference.prediction.outputs import Extras
from inference.predictor import Predictor
from preprocessing.formats.images import read_header
from preprocessing.geometry.affine import Geometry
from preprocessing.geometry.orientation import find_turn
from preprocessing.geometry.resampled_grid import resampled_shape
from preprocessing.parallel.memory import size_faults

SHORT = 0.5  # seconds; a faster tile is timed again


@dataclass(frozen=True)
class Estimate:
    """Upper bound of a prediction's costs, since headers do not tell how far images will be cropped."""

    tiles: int  # number of tiles, counting reflections
    seconds: float  # duration of the forward passes
    memory: int  # peak memory of the process in bytes (of the host if there is a GPU)
    free: int  # available memory in bytes, including that of the process

    def __str__(self) -> str:
        minutes = f"{self.seconds:.0f} s" if self.seconds < 120 else f"{self.seconds / 60:.0f} min"
        text = f"at most about {minutes} for {self.tiles} tiles and {self.memory / 2**30:.1f} GiB of memory"
        return f"{text} ({self.free / 2**30:.1f} GiB available)"


def estimate_prediction(predictor: Predictor, cases: Mapping[str, tuple[Path, ...]], extras: Extras) -> Estimate:
    """Estimate time and memory. Cases with unreadable headers, or too large for the memory, are skipped, as prediction reports them."""
    geometries = [geometry for geometry in _geometries(cases.values()) if _fits(geometry, predictor)]
    tiles, seconds = 0, 0.0
    for model, networks in zip(predictor.models, predictor.networks, strict=True):
        variants = Variants.of(predictor.options)
        reflections = model.plan.network.reflections if predictor.options.mirror else 1
        each = sum(_tiles(_planned_shape(one, model), variants.scales, model, predictor.options.step) for one in geometries)
        passes = len(networks) * reflections
        passes += model.calibration is not None and reflections > 1  # the first look
        tiles += each * passes
        seconds += each * passes * _time_tile(model, networks[0], predictor.device)
    largest = max((_case_bytes(geometry, predictor, extras) for geometry in geometries), default=0)
    process = psutil.Process().memory_info().rss
    peak = max(process, peak_memory())
    return Estimate(tiles, seconds, peak + largest, psutil.virtual_memory().available + process)


def _geometries(cases: Iterable[tuple[Path, ...]]) -> Iterable[Geometry]:
    for files in cases:
        try:
            yield read_header(files[0])[1]
        except InputError:
            continue


def _fits(geometry: Geometry, predictor: Predictor) -> bool:
    channels = len(predictor.description.channels)
    return not any(size_faults("", _planned_shape(geometry, model), geometry.spacing, channels) for model in predictor.models)


def _planned_shape(geometry: Geometry, model: Model) -> Shape:
    turned = find_turn(geometry, model.plan.orientation).apply_geometry(geometry)
    return resampled_shape(turned.shape, turned.spacing, model.plan.configuration.grid_spacing(turned.spacing))


def _tiles(shape: Shape, scales: tuple[float, ...], model: Model, step: float) -> int:
    patch = model.plan.network.patch_size
    axes = [axis for axis, size in enumerate(patch) if size > 1]
    return sum(count_tiles(scaled_shape(shape, factor, axes), patch, step) for factor in scales)


def _time_tile(model: Model, network: torch.nn.Module, device: torch.device) -> float:
    """Return the seconds of one tile."""
    plan = model.plan.network
    tile = torch.zeros(1, plan.network.input_channels, *plan.patch_size, device=device)
    body = split_network(network).body
    with torch.no_grad(), in_precision(device, first_half(device)):
        return seconds_of(lambda: body(tile).flatten()[0].item(), SHORT)  # waits for a GPU


def _case_bytes(geometry: Geometry, predictor: Predictor, extras: Extras) -> int:
    """Return the bytes of one case's arrays, while the next case is prepared and the last one written."""
    channels, classes = len(predictor.description.channels), predictor.description.output_channels
    stored = prod(geometry.shape)
    total = 2 * 4 * channels * stored  # read, and turned or normalised
    total += 2 * 4 * stored  # labels, as computed and as written
    total += (4 * classes * stored * 2 if extras.probabilities else 0) + (4 * 4 * stored if extras.uncertainty else 0)
    members = sum(
        len(Variants.of(predictor.options).scales) * len(networks)
        for model, networks in zip(predictor.models, predictor.networks, strict=True)
    )
    for model, networks in zip(predictor.models, predictor.networks, strict=True):
        shape = _planned_shape(geometry, model)
        total += 3 * 4 * channels * prod(shape)  # normalised, resampled, and the next case's
        if predictor.device.type == "cpu":
            scales = Variants.of(predictor.options).scales
            total += len(networks) * sum(_sums_bytes(scaled_shape(shape, factor), model, members) for factor in scales)
    return total


def _sums_bytes(shape: Shape, model: Model, members: int) -> int:
    network = model.plan.network.network
    channels = min(network.output_channels, network.features[0]) if network.family == "plain" else network.output_channels
    _, padded = padding(shape, model.plan.network.patch_size)
    values = channels * min(padded[0], model.plan.network.patch_size[0] + 32) * padded[1] * padded[2]
    return values * (2 if 4 * values > HALF_ABOVE // members else 4)
