"""The planning report as one self-contained page: no script, nothing fetched, all names escaped."""

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


def write_report(folder: Path, dataset: RawDataset, fingerprint: Fingerprint, plan: Plan) -> Path:
    """Write `report.html` into the dataset's folder under WORK. One case is read, to draw the plan over it.

    Raises:
        InputError: the case or `splits.json` cannot be read.
    """
    folds = find_splits(DatasetFolder(folder).splits, list(fingerprint.cases))
    slices = load_slices(dataset, fingerprint, plan)
    write_text(folder / FILE, report_page(fingerprint, plan, folds, slices))
    return folder / FILE


def report_page(fingerprint: Fingerprint, plan: Plan, folds: Sequence[Split], slices: Slices) -> str:
    """The page as HTML. The same input gives the same text."""
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
        f"Orientation: {'brought to RAS and back' if plan.orientation == 'canonical' else 'as stored'}."
    )


def _glance(plan: Plan) -> list[dict[str, str]]:
    """One row for each planned network."""
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
            "One dot for each case. Lines: the planned spacing on the left, the median size on the right.",
        )
    ]
    intensities = intensity_figure(fingerprint, plan.dataset.channels)
    if intensities is not None:
        pictures.append(
            Picture(
                intensities,
                "Intensities of the labelled voxels by channel. " + _intensity_words(fingerprint, plan.dataset.channels),
                "Labelled voxels only. Left: every case counts the same; lines are the median and, dotted, the 0.5th and 99.5th "
                "percentile where they are within the range shown. Right: bars from the 5th to the 95th percentile of each case, "
                "dots at its median.",
            )
        )
    labels = label_figure(fingerprint)
    if labels is not None:
        pictures.append(
            Picture(
                labels,
                f"Volumes and structure sizes of {counted(len(fingerprint.size_spread), 'label')}; the table below has the numbers.",
                "Left: one dot for each case that holds the label. Right: one dot for each connected structure, by the diameter of "
                "the ball of its volume; the line runs from q10 to q90 with a mark at q50, as used for planning (structures count "
                "by volume, so specks do not decide).",
            )
        )
    return pictures


def _label_rows(fingerprint: Fingerprint, plan: Plan) -> list[dict[str, str]]:
    """One row of numbers for each label."""
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
        f"Three slices of case {slices.case} at right angles with label outlines and the planned patch: {'; '.join(patches)} voxels.",
        f"Case {slices.case}, the most typical in size among those with the most labels, channel {plan.dataset.channels[0]}: slices "
        f"through one labelled voxel near the middle, true to scale. The patch is drawn around it; in training it lies anywhere.",
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
            "One scale: sizes are treated as they are."
            if group.number == 1
            else f"{group.number} scales in steps of {group.step:.3g} span a factor of {span:.3g}."
        )
        picture = Picture(
            svg,
            f"Sizes of {label}: {spread.q10:.3g} to {spread.q90:.3g} mm (q10 to q90), median {spread.q50:.3g} mm. {covered}",
            f"Sizes of {label}, the label whose sizes vary most (a factor of {spread.q90 / spread.q10:.3g} from q10 to q90). {covered} "
            f"The group is relative: it is drawn around the median. Its kernels have sigma "
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
    """The middle, with the range in brackets where there is one."""
    return in_figures(middle) if low == high else f"{in_figures(middle)} ({in_figures(low)} to {in_figures(high)})"
