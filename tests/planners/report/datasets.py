"""Fingerprints and plans for the tests of the report."""

import numpy as np

from configs.dataset import DatasetDescription
from configs.fingerprint import (
    CaseFingerprint,
    Fingerprint,
    IntensityHistogram,
    IntensityQuantiles,
    IntensityStatistics,
    LabelSizes,
)
from configs.plan import Plan
from planners.fingerprint.sizes import size_spreads
from planners.options import PlanningOptions
from planners.plan import make_plan
from planners.report.median_case import Slices

LABELS = {"background": 0, "liver": 1, "tumour": 2}


def describe(labels=LABELS, **changes):
    return DatasetDescription(name="toy", channels=("MR",), labels=labels, **changes)


def sizes(*component_voxels, voxel=1.0):
    volumes = tuple(voxels * voxel for voxels in component_voxels)
    return LabelSizes(
        voxels=sum(component_voxels), volume=sum(volumes), component_volumes=volumes, components=len(component_voxels)
    )


def case(labels, spacing=(1.0, 1.0, 1.0), shape=(60, 64, 68)):
    quantiles = (IntensityQuantiles(q05=10, q50=50, q95=90),)
    return CaseFingerprint(
        spacing=spacing, shape=shape, shape_after_crop=shape, relative_size_after_crop=1, labels=labels, intensities=quantiles
    )


def fingerprint_of(cases, **changes):
    statistics = IntensityStatistics(mean=50, std=20, median=50, min=0, max=100, percentile_00_5=5, percentile_99_5=95)
    histogram = IntensityHistogram(low=5, high=95, counts=(10, 20, 30, 20, 10), below=1, above=1)
    given = {"intensities": (statistics,), "histograms": (histogram,), "size_spread": size_spreads(cases)} | changes
    return Fingerprint(cases=cases, **given)


def sound(number=10, description=None):
    """Cases that all hold all labels, at sizes that vary."""
    names = (description or describe()).foreground
    return {f"case_{index}": case({name: sizes(1000 + 300 * index, 40) for name in names}) for index in range(number)}


def plan_of(fingerprint, description=None, **options) -> Plan:
    return make_plan(description or describe(), fingerprint, PlanningOptions(**options))


def slices_of(identifier="case_0", shape=(20, 24, 28), classes=2):
    z, y, x = np.meshgrid(*map(np.arange, shape), indexing="ij")
    image = (z + y + x).astype(np.float32)
    labels = np.zeros(shape, np.int16)
    for index in range(classes):
        labels[4:16, 4 + index : 10, 6:14] = index + 1
    cut = (10, 8, 10)
    extent = tuple(map(float, shape))
    return Slices(
        identifier,
        (image[10], image[:, 8], image[:, :, 10]),
        (labels[10], labels[:, 8], labels[:, :, 10]),
        tuple(position + 0.5 for position in cut),
        (1.0, 1.0, 1.0),
        extent,
    )
