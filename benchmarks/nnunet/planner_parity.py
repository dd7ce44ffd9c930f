"""Compare our planner with nnU-Net's on datasets, oblique stacks and synthetic fingerprints, for every configuration.

    python -m benchmarks.nnunet.planner_parity PEER_PYTHON [--data FOLDER] [--record FILE]

PEER_PYTHON is the Python of an environment with nnunetv2; nnU-Net plans there, from fingerprints that it measured itself where there are
images. Axes are compared up to a permutation: nnU-Net puts the coarsest axis first, and never reorients.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

from benchmarks.common.tables import text_table
from benchmarks.evidence.thick_slices import make_stacks
from configs.dataset import DatasetDescription
from configs.files import write_json, write_text
from configs.fingerprint import CaseFingerprint, Fingerprint, IntensityStatistics, Shape, Spacing
from configs.plan import ConfigurationPlan, Plan
from planners.fingerprint.measure import make_fingerprint
from planners.options import PlanningOptions
from planners.plan import make_plan
from planners.rules.networks.skeleton import Size
from preprocessing.dataset.raw import open_dataset

# The folder that `make_stacks` writes; nnU-Net asks for a number.
STACKS = "Dataset900_ObliqueStacks"
CONFIGURATIONS = ("2d", "3d_lowres", "3d_fullres")
PLANNERS: dict[Size, str] = {"medium": "ExperimentPlanner", "large": "nnUNetPlannerResEncL"}
COLUMNS = dict.fromkeys(
    ("data", "configuration", "planner", "spacing", "patch", "batch", "strides", "in_plane", "features"), "{}"
)
_STATISTICS = IntensityStatistics(mean=10, std=4, median=9, min=-50, max=90, percentile_00_5=0, percentile_99_5=30)


@dataclass(frozen=True)
class Synthetic:
    """A synthetic dataset.

    Attributes:
        name: name of the dataset.
        spacing: mm (Z, Y, X) of the typical case.
        shape: voxels of the typical case.
        cases: how many.
        labels: content of `labels` besides the background.
        channels: names.
        spread: relative variation of spacings and shapes over the cases; that of Z is twice as large.
        size: size of the networks.
    """

    name: str
    spacing: Spacing
    shape: Shape
    cases: int
    labels: Mapping[str, Any]
    channels: tuple[str, ...] = ("CT",)
    spread: float = 0.1
    size: Size = "medium"

    def draw(self) -> list[tuple[Spacing, Shape]]:
        """Return spacing and shape of every case. All calls return the same."""
        draws = random.Random(self.name)
        return [self._case(draws) for _ in range(self.cases)]

    def _case(self, draws: random.Random) -> tuple[Spacing, Shape]:
        plane = draws.uniform(1 - self.spread, 1 + self.spread)
        slices = draws.uniform(1 - 2 * self.spread, 1 + 2 * self.spread)
        z, y, x = self.shape
        shape = (
            max(1, round(z * draws.uniform(1 - self.spread, 1 + self.spread))) if z > 1 else 1,
            round(y * draws.uniform(1 - self.spread, 1 + self.spread)),
            round(x * draws.uniform(1 - self.spread, 1 + self.spread)),
        )
        return (self.spacing[0] * slices, self.spacing[1] * plane, self.spacing[2] * plane), shape

    @property
    def dataset_json(self) -> dict[str, Any]:
        """The dataset description as nnU-Net reads it."""
        found = {
            "channel_names": {str(index): name for index, name in enumerate(self.channels)},
            "labels": {"background": 0, **self.labels},
            "numTraining": self.cases,
            "file_ending": ".nii.gz",
            "overwrite_image_reader_writer": "SimpleITKIO",
        }
        if self._has_regions:
            found["regions_class_order"] = list(range(1, len(self.labels) + 1))
        return found

    @property
    def _has_regions(self) -> bool:
        return any(isinstance(value, list) for value in self.labels.values())

    @property
    def description(self) -> DatasetDescription:
        """The dataset description as we read it."""
        labels = {name: tuple(value) if isinstance(value, list) else value for name, value in self.labels.items()}
        order = tuple(range(1, len(labels) + 1)) if self._has_regions else None
        return DatasetDescription(
            name="Synthetic", channels=self.channels, labels={"background": 0, **labels}, regions_class_order=order
        )

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint as we measure it."""
        cases = {
            f"case_{index:04d}": CaseFingerprint(
                spacing=spacing, shape=shape, shape_after_crop=shape, relative_size_after_crop=1.0, labels={}
            )
            for index, (spacing, shape) in enumerate(self.draw())
        }
        return Fingerprint(cases=cases, intensities=(_STATISTICS,) * len(self.channels), size_spread={})

    @property
    def peer_fingerprint(self) -> dict[str, Any]:
        """The fingerprint as nnU-Net measures it."""
        drawn = self.draw()
        statistics = {"mean": 10, "std": 4, "median": 9, "min": -50, "max": 90, "percentile_00_5": 0, "percentile_99_5": 30}
        return {
            "spacings": [spacing for spacing, _ in drawn],
            "shapes_after_crop": [shape for _, shape in drawn],
            "foreground_intensity_properties_per_channel": {str(index): statistics for index in range(len(self.channels))},
            "median_relative_size_after_cropping": 1.0,
        }


def _labels(number: int) -> dict[str, int]:
    return {f"label_{index}": index for index in range(1, number + 1)}


SYNTHETIC = (
    Synthetic("tiny isotropic MR", (1.0, 1.0, 1.0), (36, 50, 35), 260, _labels(2), ("MR",), spread=0.0),
    Synthetic("isotropic CT", (0.8, 0.8, 0.8), (400, 480, 480), 100, _labels(3)),
    Synthetic("CT, thick slices", (5.0, 0.78, 0.78), (90, 512, 512), 41, _labels(1), spread=0.3),
    Synthetic("CT, slices twice as thick", (1.5, 0.78, 0.78), (400, 512, 512), 131, _labels(2)),
    Synthetic("cardiac MR", (10.0, 1.5, 1.5), (10, 256, 216), 200, _labels(3), ("MR",)),
    Synthetic("prostate MR", (3.6, 0.6, 0.6), (20, 320, 320), 32, _labels(2), ("T2", "ADC")),
    Synthetic("photographs", (999.0, 1.0, 1.0), (1, 512, 640), 80, _labels(1), ("R", "G", "B"), spread=0.0),
    Synthetic("three slices", (2.0, 0.5, 0.5), (3, 1024, 1024), 25, _labels(1), ("MR",)),
    Synthetic("huge microscopy", (0.3, 0.3, 0.3), (900, 2000, 2000), 12, _labels(1), ("fluorescence",)),
    Synthetic(
        "glioma regions",
        (1.0, 1.0, 1.0),
        (140, 171, 137),
        484,
        {"whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]},
        ("A", "B", "C", "D"),
    ),
    Synthetic("slab", (1.0, 1.0, 1.0), (12, 300, 400), 30, _labels(2), ("MR",)),
    Synthetic("coarse along X", (0.7, 1.9, 5.5), (200, 90, 40), 50, _labels(1)),
    Synthetic("spine", (1.0, 1.0, 1.0), (700, 80, 60), 60, _labels(25)),
    Synthetic("many organs", (1.5, 1.5, 1.5), (260, 230, 230), 1200, _labels(104)),
    Synthetic("sparse labels", (1.0, 1.0, 1.0), (60, 70, 60), 500, {**_labels(2), "ignore": 3}, ("MR",)),
    Synthetic("isotropic CT, large networks", (0.8, 0.8, 0.8), (400, 480, 480), 100, _labels(3), size="large"),
    Synthetic("prostate MR, large networks", (3.6, 0.6, 0.6), (20, 320, 320), 3200, _labels(2), ("T2", "ADC"), size="large"),
)


def main() -> int:
    """Run both planners and print their decisions. Returns 1 if they differ."""
    parser = argparse.ArgumentParser(description="Compare our planner with nnU-Net's.")
    parser.add_argument("peer", help="path to the Python of an environment with nnunetv2")
    parser.add_argument("--data", type=Path, help="folder of datasets in nnU-Net's raw layout")
    parser.add_argument("--record", type=Path, help="file for nnU-Net's plans, in the form that the tests read")
    arguments = parser.parse_args()
    folders = sorted(path for path in arguments.data.iterdir() if (path / "dataset.json").is_file()) if arguments.data else []
    with tempfile.TemporaryDirectory() as work:
        folders.append(make_stacks(Path(work) / STACKS))
        theirs = run_peer(arguments.peer, folders)
        ours = {made.name: summaries(plan_synthetic(made)) for made in SYNTHETIC}
        ours |= {folder.name: summaries(plan_folder(folder)) for folder in folders}
    rows = [row for name in ours for row in compare(name, ours[name], theirs[name])]
    print(text_table(rows, COLUMNS))
    differing = {row["data"] for row in rows if row["planner"] != "both"}
    print(f"\n{len(ours) - len(differing)} of {len(ours)} datasets are planned alike.")
    if arguments.record:
        write_text(arguments.record, recorded(theirs))
    return 1 if differing else 0


def plan_synthetic(made: Synthetic) -> Plan:
    """Return our plan of a synthetic dataset."""
    return make_plan(made.description, made.fingerprint, PlanningOptions(networks=("baseline",), size=made.size))


def plan_folder(folder: Path) -> Plan:
    """Return our plan of a dataset on disk."""
    dataset = open_dataset(folder)
    return make_plan(dataset.description, make_fingerprint(dataset), PlanningOptions(networks=("baseline",)))


def run_peer(python: str, folders: Sequence[Path]) -> dict[str, Any]:
    """Return summaries of nnU-Net's plans: data -> configuration -> decision."""
    jobs: list[dict[str, Any]] = [
        {"name": made.name, "planner": PLANNERS[made.size], "dataset": made.dataset_json, "fingerprint": made.peer_fingerprint}
        for made in SYNTHETIC
    ]
    jobs += [{"name": path.name, "planner": PLANNERS["medium"], "folder": str(path.resolve())} for path in folders]
    with tempfile.TemporaryDirectory() as work:
        spaces = {name: str(Path(work) / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
        for space in spaces.values():
            Path(space).mkdir()
        write_json(Path(work) / "jobs.json", jobs)
        program = [python, str(Path(__file__).with_name("peer_planner.py")), f"{work}/jobs.json", f"{work}/results.json"]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        subprocess.run(program, env=environment | spaces | {"nnUNet_n_proc_DA": "1"}, check=True)
        found = json.loads((Path(work) / "results.json").read_text(encoding="utf-8"))
    return {name: peer_summaries(plans) for name, plans in found.items()}


def summaries(plan: Plan) -> dict[str, Any]:
    """Return the decisions of our plan for each configuration, without per-axis values across slices."""
    return {name: _summary(plan.configurations[name]) for name in CONFIGURATIONS if name in plan.configurations}


def _summary(configuration: ConfigurationPlan) -> dict[str, Any]:
    planned = configuration.networks["baseline"]
    network = planned.network

    def flat(values: Sequence[Any]) -> list[Any]:
        return [value for axis, value in enumerate(values) if axis != configuration.slice_axis]

    return {
        "spacing": flat(configuration.spacing),
        "patch": flat(planned.patch_size),
        "strides": [flat(stride) for stride in network.strides],
        "kernels": [flat(kernel) for kernel in network.kernels],
        "features": list(network.features),
        "blocks": [list(network.encoder_blocks), list(network.decoder_blocks)],
        "batch": planned.batch_size,
        "batch_dice": planned.batch_dice,
    }


def peer_summaries(plans: Mapping[str, Any]) -> dict[str, Any]:
    """Return the decisions of nnU-Net's plans, with the axes in nnU-Net's order."""
    return {name: _peer_summary(plans["configurations"][name]) for name in CONFIGURATIONS if name in plans["configurations"]}


def _peer_summary(configuration: Mapping[str, Any]) -> dict[str, Any]:
    network = configuration["architecture"]["arch_kwargs"]
    return {
        "spacing": configuration["spacing"],
        "patch": [int(size) for size in configuration["patch_size"]],
        "strides": [list(stride) for stride in network["strides"]],
        "kernels": [list(kernel) for kernel in network["kernel_sizes"]],
        "features": list(network["features_per_stage"]),
        "blocks": [
            list(network.get("n_conv_per_stage") or network["n_blocks_per_stage"]),
            list(network["n_conv_per_stage_decoder"]),
        ],
        "batch": configuration["batch_size"],
        "batch_dice": configuration["batch_dice"],
    }


def recorded(plans: Mapping[str, Any]) -> str:
    """Return summaries as JSON with one line for each configuration. `expand` reads one of them."""
    entries = []
    for name, configurations in plans.items():
        lines = [f"  {json.dumps(key)}: {json.dumps(_compact(decisions))}" for key, decisions in configurations.items()]
        entries.append(f" {json.dumps(name)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(entries) + "\n}\n"


def _compact(decisions: Mapping[str, Any]) -> dict[str, Any]:
    stages = {name: " ".join("".join(map(str, stage)) for stage in decisions[name]) for name in ("strides", "kernels")}
    return {**decisions, **stages, "spacing": [round(length, 9) for length in decisions["spacing"]]}


def expand(decisions: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recorded summary with strides and kernels as numbers instead of texts such as `122 222`."""
    stages = {name: [list(map(int, stage)) for stage in decisions[name].split()] for name in ("strides", "kernels")}
    return {**decisions, **stages}


def agree(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Return whether all decisions of a configuration are equal after one permutation of the axes."""
    return any(alike(ours, permuted(theirs, order)) for order in permutations(range(len(ours["spacing"]))))


def alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether decisions are equal, with spacings compared to six digits."""
    close = all(abs(a - b) <= 1e-6 * abs(a) for a, b in zip(one["spacing"], other["spacing"], strict=True))
    return close and all(one[name] == other[name] for name in one if name != "spacing")


def permuted(decisions: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
    """Return the decisions with permuted axes."""
    changed = dict(decisions)
    for name in ("spacing", "patch"):
        changed[name] = [decisions[name][axis] for axis in order]
    for name in ("strides", "kernels"):
        changed[name] = [[stage[axis] for axis in order] for stage in decisions[name]]
    return changed


def compare(name: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Return the rows of the table: one row if both planners agree on a configuration, and otherwise one row for each."""
    for configuration in CONFIGURATIONS:
        mine, other = ours.get(configuration), theirs.get(configuration)
        if mine and other and agree(mine, other):
            yield _row(name, configuration, "both", mine)
            continue
        if mine:
            yield _row(name, configuration, "ours", mine)
        if other:
            yield _row(name, configuration, "nnU-Net", other)


def _row(name: str, configuration: str, planner: str, decisions: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "data": name,
        "configuration": configuration,
        "planner": planner,
        "spacing": " ".join(f"{size:.4g}" for size in decisions["spacing"]),
        "patch": " ".join(map(str, decisions["patch"])),
        "batch": decisions["batch"],
        "strides": " ".join("".join(map(str, stride)) for stride in decisions["strides"][1:]),
        "in_plane": sum(1 in kernel for kernel in decisions["kernels"]),
        "features": f"{decisions['features'][0]} .. {decisions['features'][-1]}",
    }


if __name__ == "__main__":
    sys.exit(main())
