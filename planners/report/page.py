"""Write the planning report as one self-contained HTML page without scripts or external files, with all names escaped."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from configs.errors import counted, times
from configs.files import write_text
from configs.fingerprint import Fingerprint
from configs.folders import DatasetFolder
from configs.plan import ConfigurationPlan, NetworkPlan, Plan
from planners.report.distributions import geometry_figure, intensity_figure
from planners.report.findings import CHECKS, find_all, named
from planners.report.median_case import Slices, load_slices
from planners.report.patch_figure import patch_figure
from planners.report.structures import diameters, label_figure, scale_figure, volumes, widest_label
from preprocessing.dataset.raw import RawDataset
from preprocessing.dataset.splits import Split, find_splits
from preprocessing.pages.figures import Picture, in_figures, label_colours
from preprocessing.pages.plan_tables import sentences, stage_rows
from preprocessing.pages.rendering import page_environment

FILE = "report.html"
_ORIENTATIONS = {"canonical": "images are turned to RAS and results back", "as-stored": "as stored"}


def write_planning_report(folder: Path, dataset: RawDataset, fingerprint: Fingerprint, plan: Plan) -> Path:
    """Write `report.html` into the dataset's folder under WORK, and return its path. Reads one case to draw the plan over it.

    The fingerprint is measured in the plan's orientation.

    Raises:
        InputError: the case or `splits.json` cannot be read.
    """
    folds = find_splits(DatasetFolder(folder).splits, list(fingerprint.cases))
    slices = load_slices(dataset, fingerprint, plan)
    write_text(folder / FILE, report_page(fingerprint, plan, folds, slices))
    return folder / FILE


def report_page(fingerprint: Fingerprint, plan: Plan, folds: Sequence[Split], slices: Slices) -> str:
    """Return the page as HTML. The same input gives the same text."""
    return (
        page_environment("planners.report")
        .get_template("page.html.j2")
        .render(
            name=plan.dataset.name,
            summary=_summary(fingerprint, plan),
            findings=find_all(fingerprint, plan, folds),
            checks=CHECKS,
            glance=_glance(plan),
            pictures=_data_pictures(fingerprint, plan),
            labels=_label_rows(fingerprint, plan),
            configurations=[
                _configuration(name, configuration, fingerprint, plan, slices)
                for name, configuration in plan.configurations.items()
            ],
        )
    )


def _summary(fingerprint: Fingerprint, plan: Plan) -> str:
    description = plan.dataset
    kind = "region" if description.has_regions else "label"
    return (
        f"{counted(len(fingerprint.cases), 'case')}, {counted(len(description.channels), 'channel')} "
        f"({named(description.channels)}), {counted(len(description.foreground), kind)}. "
        f"Orientation: {_ORIENTATIONS.get(str(plan.orientation), 'slices in the plane of Y and X')}."
    )


def _glance(plan: Plan) -> list[dict[str, str]]:
    """Return one row for each planned network."""
    return [
        {
            "configuration": name,
            "network": network,
            "spacing": times(configuration.spacing),
            "patch": times(planned.patch_size),
            "batch": str(planned.batch_size),
            "stages": str(len(planned.network.features)),
            "features": ", ".join(map(str, planned.network.features)),
            "scales": str(planned.network.scale_group.number) if planned.network.scale_group else "-",
        }
        for name, configuration in plan.configurations.items()
        for network, planned in configuration.networks.items()
    ]


def _data_pictures(fingerprint: Fingerprint, plan: Plan) -> list[Picture]:
    pictures = [
        Picture(
            geometry_figure(fingerprint, plan),
            f"Spacing and size of {counted(len(fingerprint.cases), 'case')} along Z, Y and X. {_geometry_words(fingerprint)}",
            "Each dot is a case. Lines show the planned spacing on the left and the median size on the right.",
        )
    ]
    intensities = intensity_figure(fingerprint, plan.dataset.channels)
    if intensities is not None:
        pictures.append(
            Picture(
                intensities,
                "Intensities of the labelled voxels by channel. " + _intensity_words(fingerprint, plan.dataset.channels),
                "Labelled voxels only. Left: all cases with equal weight; lines show the median and, dotted, the 0.5th and 99.5th "
                "percentile where they are within the range. Right: each bar reaches from the 5th to the 95th percentile of a case, "
                "with a dot at its median.",
            )
        )
    labels = label_figure(fingerprint)
    if labels is not None:
        pictures.append(
            Picture(
                labels,
                f"Volumes and structure sizes of {counted(len(fingerprint.size_spread), 'label')}; the table below has the numbers.",
                "Left: each dot is a case with the label. Right: each dot is a connected structure, at the diameter of a ball of the same "
                "volume; the line reaches from q10 to q90 with a mark at q50, as used for planning (structures are weighted by volume, so "
                "that specks do not decide).",
            )
        )
    return pictures


def _label_rows(fingerprint: Fingerprint, plan: Plan) -> list[dict[str, str]]:
    """Return one row of numbers for each label."""
    finest = min(math.prod(configuration.spacing) for configuration in plan.configurations.values())
    rows = []
    for label in plan.dataset.foreground:
        values = plan.dataset.labels[label]
        row = {"label": label, "values": str(values) if isinstance(values, int) else ", ".join(map(str, values))}
        found = volumes(fingerprint, label)
        row["cases"] = f"{len(found)} of {len(fingerprint.cases)}"
        row |= dict.fromkeys(("volume", "structures", "size", "fewest"), "-")
        if len(found):
            spread = fingerprint.size_spread[label]
            row["volume"] = _range(*np.quantile(found, (0.1, 0.5, 0.9)))
            row["structures"] = f"{len(diameters(fingerprint, label)[0]) / len(found):.3g}"
            row["size"] = _range(spread.q10, spread.q50, spread.q90)
            row["fewest"] = f"{found.min() / finest:,.0f}"
        rows.append(row)
    return rows


def _configuration(
    name: str, configuration: ConfigurationPlan, fingerprint: Fingerprint, plan: Plan, slices: Slices
) -> dict[str, object]:
    colours = label_colours(len(plan.dataset.foreground))
    patches = [f"{network}: {times(planned.patch_size)}" for network, planned in configuration.networks.items()]
    picture = Picture(
        patch_figure(slices, configuration, plan.dataset, f"patch-{name}"),
        f"Three orthogonal slices of case {slices.case} with label outlines and the planned patch: {'; '.join(patches)} voxels.",
        f"Case {slices.case}, channel {plan.dataset.channels[0]}: the case closest to the median size among those with the most labels. "
        "The slices pass through a labelled voxel near the middle and are true to scale. The patch is drawn around this voxel; training "
        "takes patches at random positions.",
    )
    return {
        "name": name,
        "reasons": sentences(configuration.reasons),
        "picture": picture,
        "patches": [{"network": patch, "style": style} for patch, style in zip(patches, ("solid", "dashed"), strict=False)],
        "legend": list(zip(plan.dataset.foreground, colours, strict=True)),
        "networks": [
            _network(name, network, configuration, planned, fingerprint) for network, planned in configuration.networks.items()
        ],
    }


def _network(
    configuration_name: str, name: str, configuration: ConfigurationPlan, planned: NetworkPlan, fingerprint: Fingerprint
) -> dict[str, object]:
    picture = None
    group = planned.network.scale_group
    svg = None if group is None else scale_figure(fingerprint, group, f"scales-{configuration_name}-{name}")
    if group is not None and svg is not None:
        label = widest_label(fingerprint)
        spread = fingerprint.size_spread[label]
        span = group.step ** (group.number - 1)
        covered = (
            "The network has one scale."
            if group.number == 1
            else f"{group.number} scales in steps of {group.step:.3g} span a factor of {span:.3g}."
        )
        picture = Picture(
            svg,
            f"Sizes of {label}: {spread.q10:.3g} to {spread.q90:.3g} mm (q10 to q90), median {spread.q50:.3g} mm. {covered}",
            f"Sizes of {label}, the label whose sizes vary most (by a factor of {spread.q90 / spread.q10:.3g} from q10 to q90). {covered} "
            f"Scales are relative sizes; they are drawn around the median. The kernels have sigma "
            f"{', '.join(f'{sigma:.3g}' for sigma in group.sigmas)} mm at the finest stage.",
        )
    return {
        "name": name,
        "reasons": sentences(planned.reasons),
        "picture": picture,
        "stages": stage_rows(configuration, planned),
    }


def _geometry_words(fingerprint: Fingerprint) -> str:
    cases = fingerprint.cases.values()
    spacing, shape = (np.array([getattr(case, what) for case in cases]) for what in ("spacing", "shape_after_crop"))
    return (
        f"Spacing {times(spacing.min(axis=0))} to {times(spacing.max(axis=0))} mm, "
        f"size {times(shape.min(axis=0))} to {times(shape.max(axis=0))} voxels."
    )


def _intensity_words(fingerprint: Fingerprint, channels: Sequence[str]) -> str:
    return " ".join(
        f"{channel}: median {known.median:.4g}, 0.5th to 99.5th percentile {known.percentile_00_5:.4g} to {known.percentile_99_5:.4g}."
        for channel, known in zip(channels, fingerprint.intensities, strict=True)
    )


def _range(low: float, middle: float, high: float) -> str:
    """Return the middle value, followed by the range in brackets if there is one."""
    return in_figures(middle) if low == high else f"{in_figures(middle)} ({in_figures(low)} to {in_figures(high)})"
