"""Measure the cost of each planned network: parameters, multiply-adds, memory, time of a training step and of a predicted voxel.

    python -m benchmarks.cost.cost ../shared/data/Dataset004_Hippocampus -o cost.json     # also writes cost.csv and cost.svg

The dataset is measured and planned here, once with the default settings and once for each forced number of scales; nothing else is
made of it. A step is that of training: forward, loss, backward, clipping and optimiser, in the default precision, on random patches of
the planned size and batch; loading and augmentation are left out, and so is torch.compile
(`benchmarks.nnunet.training_speed` has the data).
Prediction is that of one training image from its array to its labels, without reflections and other scales; `passes` says by how many
times an ensemble as planned multiplies this. All networks take their turn in every round, so that other work on the machine falls on all
alike; ratios are medians over the rounds. Memory is what a process of its own takes at most beyond what it has before; on a GPU,
what is allocated there. Patches of the networks may differ in size: per voxel is what it says.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from math import prod
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks.common.figures import svg_axes
from benchmarks.common.rounds import Action, describe_device, median_ratio, peak_memory, resident_bytes, time_in_turn
from benchmarks.common.tables import text_table, write_csv
from configs.files import write_json
from configs.plan import ModelPlan, NetworkPlan
from configs.training import TrainingConfig
from inference import PredictionOptions, Predictor
from inference.device import choose_device
from inference.model import Model, make_network
from planners.fingerprint.measure import make_fingerprint
from planners.options import PlanningOptions
from planners.plan import make_plan
from preprocessing.dataset.raw import open_dataset
from preprocessing.formats.images import read_image
from se_unet.cost import activation_bytes, multiply_adds
from se_unet.cpu.allocator import keep_freed_memory
from trainers.optimisation.loss import make_loss
from trainers.optimisation.optimiser import make_optimiser
from trainers.optimisation.precision import Precision
from trainers.optimisation.step import TrainingStep

REFERENCE = "baseline"
SINGLE = PredictionOptions(mirror=False, scales=(1.0,))
RATIOS = {  # column -> words of the figure
    "parameters_ratio": "parameters",
    "multiply_adds_ratio": "multiply-adds per voxel",
    "step_ratio": "training step",
    "step_voxel_ratio": "training step per voxel",
    "step_memory_ratio": "memory of training",
    "prediction_ratio": "prediction per voxel",
    "prediction_memory_ratio": "memory of prediction",
}
COLUMNS = {
    "network": "{}",
    "scales": "{:d}",
    "features": "{}",
    "patch": "{}",
    "batch": "{:d}",
    "parameters": "{:,}",
    "multiply_adds_per_voxel": "{:,.0f}",
    "step_s": "{:.3f}",
    "step_ratio": "{:.2f}",
    "step_voxel_ratio": "{:.2f}",
    "step_memory_mb": "{:,.0f}",
    "prediction_us_per_voxel": "{:.2f}",
    "prediction_ratio": "{:.2f}",
    "prediction_memory_mb": "{:,.0f}",
    "passes": "{:.1f}",
}


@dataclass(frozen=True)
class Contender:
    """A network as planned.

    Attributes:
        plan: plan of this network alone.
        batch: patches of a training step.
        image: files of the image that is segmented.
        device: device of the network.
    """

    plan: ModelPlan
    batch: int
    image: tuple[Path, ...]
    device: str

    @property
    def planned(self) -> NetworkPlan:
        """Patch, batch and network."""
        return self.plan.network

    def training_step(self) -> Action:
        """A step on random patches."""
        config, planned, device = TrainingConfig(), self.planned, torch.device(self.device)
        torch.manual_seed(0)
        network = make_network(planned).to(device)
        optimiser, precision = make_optimiser(network.parameters(), config), Precision(device, config.mixed_precision)
        loss = make_loss(self.plan.dataset, planned.batch_dice).to(device)
        step = TrainingStep(network, loss, optimiser, precision, config.clip_norm)
        images = torch.randn(self.batch, planned.network.input_channels, *planned.patch_size, device=device)
        shape = (self.batch, *planned.patch_size)
        labels = torch.randint(len(self.plan.dataset.values), shape, device=device, dtype=torch.int16)
        return lambda: step(images, labels)

    def prediction(self) -> Action:
        """The whole image segmented, from its array on."""
        torch.manual_seed(0)
        predictor = Predictor(Model(self.plan, {"0": make_network(self.planned)}), self.device, SINGLE)
        image, geometry = read_image(list(self.image))
        return lambda: predictor.segment(image, geometry)


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print one table, write JSON, CSV and figure. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="folder of the raw dataset")
    parser.add_argument("--configuration", default="3d_fullres")
    parser.add_argument(
        "--num-scales", type=int, nargs="*", default=[4], help="numbers of scales to plan besides the default; default: 4"
    )
    parser.add_argument("--size", default="medium", help="size of the networks; default: %(default)s")
    parser.add_argument("--gpu-memory", type=float, help="GPU memory in GB to plan for; default: the planner's")
    parser.add_argument("--batch", type=int, help="patches of a step; default: as planned")
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds; default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="number of CPU threads; default: %(default)s")
    parser.add_argument("--device", help="device; default: the best available")
    parser.add_argument("-o", "--output", type=Path, default=Path("cost.json"))
    arguments = parser.parse_args(words)
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    contenders = make_contenders(arguments)
    device = torch.device(next(iter(contenders.values())).device)
    steps = time_in_turn({name: one.training_step() for name, one in contenders.items()}, arguments.rounds, device)
    predictions = time_in_turn({name: one.prediction() for name, one in contenders.items()}, arguments.rounds, device)
    memory = {name: (peak_of(one, "training_step"), peak_of(one, "prediction")) for name, one in contenders.items()}
    rows = [describe(name, one) | timed(name, one, steps, predictions, memory) for name, one in contenders.items()]
    add_ratios(rows)
    print(text_table(rows, COLUMNS))
    facts = {"dataset": arguments.dataset.name, "configuration": arguments.configuration, "device": describe_device(device)}
    facts |= {"torch": torch.__version__, "arguments": {name: str(value) for name, value in vars(arguments).items()}}
    write_json(arguments.output, facts | {"rows": rows, "step_seconds": steps, "prediction_seconds": predictions})
    write_csv(rows, arguments.output.with_suffix(".csv"))
    draw(rows, arguments.output.with_suffix(".svg"))
    return 0


def make_contenders(arguments: argparse.Namespace) -> dict[str, Contender]:
    """The networks that the planner gives, and those with a forced number of scales, by name; the baseline first."""
    raw = open_dataset(arguments.dataset)
    fingerprint = make_fingerprint(raw)
    image = raw.cases[min(raw.cases)].images
    contenders = {}
    for number in (None, *arguments.num_scales):
        networks = (REFERENCE, "se") if number is None else ("se",)
        options = PlanningOptions(
            networks, (arguments.configuration,), arguments.size, gpu_memory=arguments.gpu_memory, num_scales=number
        )
        plan = make_plan(raw.description, fingerprint, options)
        for network in networks:
            alone = plan.only(arguments.configuration, network)
            batch = arguments.batch or plan.network(arguments.configuration, network).batch_size
            name = network if number is None else f"{network}, S = {number}"
            contenders[name] = Contender(alone, batch, tuple(image), str(choose_device(arguments.device)))
    return contenders


def describe(name: str, contender: Contender) -> dict[str, Any]:
    """What is counted on shapes, without running anything."""
    planned = contender.planned
    network = make_network(planned).train()
    shape = (contender.batch, planned.network.input_channels, *planned.patch_size)
    group = planned.network.scale_group
    return {
        "network": name,
        "scales": group.number if group else 0,
        "features": " ".join(map(str, planned.network.features)),
        "patch": " ".join(map(str, planned.patch_size)),
        "batch": contender.batch,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "multiply_adds_per_voxel": multiply_adds(network, shape) / (contender.batch * prod(planned.patch_size)),
        "kept_mb": activation_bytes(network, shape) / 1e6,
        "passes": 2 ** len(planned.mirror_axes),
    }


def timed(
    name: str,
    contender: Contender,
    steps: dict[str, list[float]],
    predictions: dict[str, list[float]],
    memory: dict[str, tuple[int | None, int | None]],
) -> dict[str, Any]:
    """What was measured, beside the reference."""
    image, _ = read_image(list(contender.image))
    in_training, in_prediction = memory[name]
    return {
        "step_s": statistics.median(steps[name]),
        "step_ratio": median_ratio(steps[name], steps[REFERENCE]),
        "step_us_per_voxel": 1e6 * statistics.median(steps[name]) / (contender.batch * prod(contender.planned.patch_size)),
        "step_memory_mb": None if in_training is None else in_training / 1e6,
        "prediction_us_per_voxel": 1e6 * statistics.median(predictions[name]) / prod(image.shape[1:]),
        "prediction_ratio": median_ratio(predictions[name], predictions[REFERENCE]),
        "prediction_memory_mb": None if in_prediction is None else in_prediction / 1e6,
    }


def add_ratios(rows: list[dict[str, Any]]) -> None:
    """Each row's figures against those of the reference, which is the first; step and prediction have theirs already."""
    reference = rows[0]
    of = {
        "parameters_ratio": "parameters",
        "multiply_adds_ratio": "multiply_adds_per_voxel",
        "step_memory_ratio": "step_memory_mb",
        "prediction_memory_ratio": "prediction_memory_mb",
    }
    voxels = {row["network"]: row["step_s"] / row["step_us_per_voxel"] for row in rows}
    for row in rows:
        row |= {ratio: row[column] / reference[column] if row[column] is not None else None for ratio, column in of.items()}
        row["step_voxel_ratio"] = row["step_ratio"] * voxels[reference["network"]] / voxels[row["network"]]


def peak_of(contender: Contender, action: str) -> int | None:
    """Most bytes that an action takes, on a GPU or in a process of its own; None where neither can be told."""
    if contender.device != "cpu":
        return peak_memory(getattr(contender, action)(), torch.device(contender.device))
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(peak_in_process, contender, action, torch.get_num_threads()).result()


def peak_in_process(contender: Contender, action: str, threads: int) -> int | None:
    """Most resident bytes of this process while it acts twice, beyond those before; the network itself counts."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    before, _ = resident_bytes()
    act = getattr(contender, action)()
    act()
    act()
    _, most = resident_bytes()
    return None if before is None or most is None else most - before


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Ratios to the baseline as bars."""
    others = rows[1:]
    shown = {name: words for name, words in RATIOS.items() if all(row[name] is not None for row in others)}
    with svg_axes(path, 7, 0.6 + 0.3 * len(shown) * max(1, len(others))) as axes:
        height = 0.8 / max(1, len(others))
        for index, row in enumerate(others):
            places = [-position - index * height for position in range(len(shown))]
            bars = axes.barh(places, [row[name] for name in shown], height, label=row["network"])
            axes.bar_label(bars, fmt=" %.2f", fontsize="small")
        axes.set_yticks([-position - 0.4 + height / 2 for position in range(len(shown))], shown.values())
        axes.axvline(1, color="black", linewidth=1)
        axes.axvline(2, color="black", linewidth=1, linestyle=":")
        axes.set(xlabel="times the baseline's", xlim=(0, 1.15 * max(2, *(row[name] for row in others for name in shown))))
        axes.legend(frameon=False)


if __name__ == "__main__":
    sys.exit(main())
