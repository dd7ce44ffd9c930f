"""Measure and validate a dataset in one pass over its cases."""

import logging
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from configs.dataset import DatasetDescription
from configs.fingerprint import CaseFingerprint, Fingerprint, IntensityHistogram, IntensityQuantiles, IntensityStatistics
from configs.progress import Progress
from planners.fingerprint.sizes import label_sizes, size_spreads
from preprocessing.dataset.case import Case
from preprocessing.dataset.labels import labelled
from preprocessing.dataset.raw import RawDataset
from preprocessing.dataset.validation import examine
from preprocessing.geometry.cropping import nonzero_box
from preprocessing.geometry.orientation import as_directions, find_turn

_SAMPLES = 10_000_000  # foreground intensities drawn from the whole dataset, the same number from each case
_LOW, _HIGH = 0.5, 99.5  # percentiles
_BINS = 60
_COUNTED = 1_000_000  # samples that the histograms count
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CaseMeasurement:
    """Measurements of one case."""

    fingerprint: CaseFingerprint  # geometry, label sizes and intensity quantiles of the case
    intensities: NDArray[np.float32]  # (C, samples) float32 intensities drawn from the foreground; (C, 0) without foreground
    extremes: NDArray[np.float32]  # (C, 2) float32 smallest and largest foreground intensities; (C, 0) without foreground


def make_fingerprint(
    dataset: RawDataset, jobs: int = 1, progress: Progress | None = None, scheduler: str | None = None
) -> Fingerprint:
    """Validate and measure every case, by `jobs` processes or the workers of a Dask scheduler, and log warnings.

    Raises:
        InputError: the dataset has faults; all of them are listed.
    """
    samples = max(1, _SAMPLES // max(1, len(dataset.cases)))
    measure = partial(measure_case, description=dataset.description, samples=samples)
    warnings, measurements = examine(dataset, measure, jobs, progress, scheduler)
    for warning in warnings:
        _logger.warning("%s", warning)
    cases = {identifier: measurement.fingerprint for identifier, measurement in measurements.items()}
    intensities = intensity_statistics(list(measurements.values()), len(dataset.description.channels))
    return Fingerprint(
        cases=cases,
        intensities=intensities,
        size_spread=size_spreads(cases),
        histograms=_histograms(measurements, intensities),
        warnings=tuple(warnings),
    )


def measure_case(case: Case, description: DatasetDescription, samples: int) -> CaseMeasurement:
    """Measure one case in canonical axis order.

    `samples` foreground intensities are drawn with replacement, so that each case has the same weight at any size.
    """
    case = _turned(case)
    box = nonzero_box(case.image)
    foreground = _foreground(case, description)
    random = np.random.default_rng(zlib.crc32(case.identifier.encode()))
    present = foreground.shape[1]
    drawn = foreground[:, random.integers(present, size=samples)] if present else foreground
    fingerprint = CaseFingerprint(
        spacing=case.geometry.spacing,
        shape=case.geometry.shape,
        shape_after_crop=box.shape,
        relative_size_after_crop=float(np.prod(box.shape) / np.prod(case.geometry.shape)),
        labels=label_sizes(case, description),
        intensities=_quantiles(drawn) if present else (),
        directions=as_directions(case.geometry.direction.T),
    )
    if not present:
        return CaseMeasurement(fingerprint, foreground, foreground)
    extremes = np.stack([foreground.min(axis=1), foreground.max(axis=1)], axis=1)
    return CaseMeasurement(fingerprint, drawn, extremes)


def _turned(case: Case) -> Case:
    """Return the case in canonical orientation, so that nothing measured depends on how the file stores its axes."""
    turn = find_turn(case.geometry, "canonical")
    labels = None if case.labels is None else turn.apply(case.labels)
    return replace(case, image=turn.apply(case.image), labels=labels, geometry=turn.apply_geometry(case.geometry))


def intensity_statistics(measurements: Sequence[CaseMeasurement], channels: int) -> tuple[IntensityStatistics, ...]:
    """Return the statistics of each channel over the foreground of all cases, or nothing where no case has foreground."""
    if not any(measurement.intensities.size for measurement in measurements):
        return ()
    return tuple(
        _statistics(
            np.concatenate([measurement.intensities[channel] for measurement in measurements]),
            np.concatenate([measurement.extremes[channel] for measurement in measurements]),
        )
        for channel in range(channels)
    )


def _quantiles(values: NDArray[np.float32]) -> tuple[IntensityQuantiles, ...]:
    """Return the quantiles of each channel of (C, n)."""
    low, middle, high = np.percentile(values, (5, 50, 95), axis=1)
    return tuple(
        IntensityQuantiles(q05=float(q05), q50=float(q50), q95=float(q95))
        for q05, q50, q95 in zip(low, middle, high, strict=True)
    )


def _histograms(
    measurements: Mapping[str, CaseMeasurement], statistics: Sequence[IntensityStatistics]
) -> tuple[IntensityHistogram, ...]:
    """Return the histogram of each channel."""
    return tuple(
        _histogram(
            [measurement.intensities[channel] for measurement in measurements.values() if measurement.intensities.size], known
        )
        for channel, known in enumerate(statistics)
    )


def _histogram(samples: Sequence[NDArray[np.float32]], known: IntensityStatistics) -> IntensityHistogram:
    """Count intensities in bins between the percentiles, but at most three interquartile ranges beyond the quartiles.

    Otherwise a few images with another range, which occur in MR, would squeeze all others into one bin.
    """
    step = max(1, sum(map(len, samples)) // _COUNTED)  # samples are in random order
    values = np.concatenate([drawn[::step] for drawn in samples])
    lower, upper = np.percentile(values, (25, 75))
    fence = 3 * (upper - lower) or np.inf
    low, high = max(known.percentile_00_5, lower - fence), min(known.percentile_99_5, upper + fence)
    counts, edges = np.histogram(values, _BINS, range=(low, high))
    return IntensityHistogram(
        low=float(edges[0]),
        high=float(edges[-1]),
        counts=tuple(int(count) for count in counts),
        below=int(np.count_nonzero(values < edges[0])),
        above=int(np.count_nonzero(values > edges[-1])),
    )


def _foreground(case: Case, description: DatasetDescription) -> NDArray[np.float32]:
    """Return the intensities (C, n) of the labelled voxels, without background and ignored voxels."""
    if case.labels is None:
        return np.zeros((len(case.image), 0), dtype=np.float32)
    inside = labelled(case.labels, description)
    channels = [
        channel[inside] for channel in case.image
    ]  # indexing all channels at once would store three indices for each voxel
    return channels[0][None] if len(channels) == 1 else np.stack(channels)


def _statistics(values: NDArray[np.float32], extremes: NDArray[np.float32]) -> IntensityStatistics:
    low, median, high = np.percentile(values, (_LOW, 50, _HIGH))
    return IntensityStatistics(
        mean=float(values.mean(dtype=np.float64)),
        std=float(values.std(dtype=np.float64)),
        median=float(median),
        min=float(extremes.min()),
        max=float(extremes.max()),
        percentile_00_5=float(low),
        percentile_99_5=float(high),
    )
