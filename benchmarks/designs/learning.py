"""Compare how fast and how well network designs learn to segment hippocampus, also at sizes without training data.

Every run draws 25 (or `--cases`) of the 140 training cases by its seed and tests on 40 other training cases that are the same for all
runs. Whole volumes, batch 2, Adam at 1e-2 for every design, mirroring only (or random scaling of the anatomy, where the design's name
ends in `+scale`). Test anatomy is rescaled by resampling image and label; nothing is painted around it and the spacing is kept.

    python -m benchmarks.designs.learning DATASET OUTPUT --designs plain se1 --seeds 0 1 --steps 250

Each finished run is one JSON in OUTPUT and is not repeated.
"""

import argparse
import time
from pathlib import Path

import nibabel
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.common.tables import text_table
from benchmarks.designs.learning_results import MOST_CASES, Result, columns_of, draw_losses, read_results, rows_of
from benchmarks.designs.spread_widths import spread_widths
from configs.files import read_json, write_json
from configs.network import NetworkConfig, ScaleGroup
from inference.engine.sums import dice_of, sums_of
from se_unet import build_network
from se_unet.cpu.allocator import keep_freed_memory
from se_unet.layers.convolution import ScaleConvolution
from se_unet.separable import apply_separable, gaussian_matrix, spline_matrix
from se_unet.weights import load_weights, save_weights

SHAPE = (40, 56, 40)
TEST_CASES, SPLIT_SEED = 40, 12345
SCALES = (0.6, 0.8, 1.0, 1.25)
CLASSES = 3
SIGMA = 0.8  # width of the narrowest kernels in voxels
Cases = dict[str, tuple[Tensor, Tensor]]


def build(name: str) -> nn.Module:
    """Return the network of a design: `plain`, or family + scales (`se4`, `pyramid3`) with options: `se4:step=1.3,width=4,gain=2`."""
    options = command_options_of(name)
    network = build_network(design(name))
    gain = float(options.get("gain", 1))
    for module in network.modules():
        if gain != 1 and isinstance(module, ScaleConvolution):  # the same function, each weight with `gain` times its say
            module.functions.stencils *= gain
            module.functions.whole *= gain
            module.weight.data /= gain
    if "spread" in options:
        spread_widths(network, float(options.get("sigma", SIGMA)), learned=options["spread"] == "learned")
    return network


def command_options_of(name: str) -> dict[str, str]:
    """Return the part of a design's name behind the colon."""
    _, _, tail = name.removesuffix("+scale").partition(":")
    return dict(option.split("=") for option in tail.split(",") if option)


def design(name: str) -> NetworkConfig:
    """Return the description of the network of a design's name."""
    options = command_options_of(name)
    head = name.removesuffix("+scale").partition(":")[0]
    family = head.rstrip("0123456789")
    width = int(options.get("width", 8))
    group = None
    if family != "plain":
        number = int(head[len(family) :])
        group = ScaleGroup(
            smallest_sigma=float(options.get("sigma", SIGMA)), step=float(options.get("step", 2 ** (1 / 3))), number=number
        )
    settings = {
        "family": family, "block": options.get("block", "plain"), "input_channels": 1, "output_channels": CLASSES,
        "features": (width, 2 * width, 4 * width), "strides": ((1, 1, 1), (2, 2, 2), (2, 2, 2)), "kernels": ((3, 3, 3),) * 3,
        "encoder_blocks": (1 if options.get("block") == "residual" else 2,) * 3, "decoder_blocks": (int(options.get("decoder", 2)),) * 2,
        "scale_group": group, "deep_supervision": False,
        "projection": options.get("projection", "learned"), "border": options.get("border", "replicate"),
        "scale_mixing": int(options.get("mixing", 0)), "scale_dropout": float(options.get("dropout", 0)),
        "basis_order": "tensor" if options.get("order") == "tensor" else int(options.get("order", 2)),
    }  # fmt: skip
    return NetworkConfig.model_validate(settings)


def load_cases(dataset: Path) -> Cases:
    """Return the standardised image (Z, Y, X) and the labels (Z, Y, X) of each case."""
    cases = {}
    for path in sorted((dataset / "labelsTr").glob("*.nii.gz")):
        name = path.name.removesuffix(".nii.gz")
        image = nibabel.load(dataset / "imagesTr" / f"{name}_0000.nii.gz").get_fdata(dtype=np.float32).T
        labels = np.rint(nibabel.load(path).get_fdata(dtype=np.float32).T).astype(np.int64)
        cases[name] = (torch.from_numpy((image - image.mean()) / image.std()), torch.from_numpy(labels))
    return cases


def split(cases: list[str], seed: int, most: int = MOST_CASES) -> tuple[list[str], list[str]]:
    """Return the training cases, drawn by the seed from those that are not test cases, and the test cases, equal for every seed.

    With fewer training cases, these are the first of the cases that are drawn otherwise.
    """
    order = np.random.default_rng(SPLIT_SEED).permutation(sorted(cases))
    test, pool = order[:TEST_CASES], order[TEST_CASES:]
    return list(np.random.default_rng(seed).choice(pool, MOST_CASES, replace=False))[:most], list(test)


def to_shape(volume: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Crop or pad to a shape about the centre, repeating the border."""
    for axis, size in enumerate(shape):
        n = volume.shape[axis]
        positions = (torch.arange(size) - (size - n) // 2).clamp(0, n - 1)
        volume = volume.index_select(axis, positions)
    return volume


def rescale(image: Tensor, labels: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Return the anatomy `factor` times as large: image (Z, Y, X) by cubic spline, low-passed if it shrinks, labels by linear one-hot."""
    if factor == 1:
        return image, labels
    sizes = [max(8, round(n * factor)) for n in image.shape]
    blur = 0.5 * max(0.0, factor**-2 - 1) ** 0.5
    there = [(spline_matrix(n, m, 3) @ gaussian_matrix(n, blur)).float() for n, m in zip(image.shape, sizes, strict=True)]
    linear = [spline_matrix(n, m, 1).float() for n, m in zip(image.shape, sizes, strict=True)]
    onehot = F.one_hot(labels, CLASSES).movedim(-1, 0).float()
    return apply_separable(image, there), apply_separable(onehot, linear).argmax(0)


def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy minus the soft Dice of the foreground."""
    probabilities, onehot = logits.softmax(1)[:, 1:], F.one_hot(labels, CLASSES).movedim(-1, 1)[:, 1:].float()
    axes = (2, 3, 4)
    dice = (2 * (probabilities * onehot).sum(axes) + 1) / (probabilities.sum(axes) + onehot.sum(axes) + 1)
    return F.cross_entropy(logits, labels) - dice.mean()


def train(network: nn.Module, cases: list[tuple[Tensor, Tensor]], steps: int, seed: int, augment_scale: bool) -> list[float]:
    """Train with Adam at 1e-2 and a polynomial schedule. Returns the loss of every step."""
    generator = np.random.default_rng(seed)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 1e-2 * (1 - step / steps) ** 0.9
        drawn = [cases[index] for index in generator.choice(len(cases), 2, replace=False)]
        if augment_scale:
            drawn = [rescale(image, labels, float(np.exp(generator.uniform(*np.log((0.6, 1.4)))))) for image, labels in drawn]
        image = torch.stack([to_shape(case[0], SHAPE) for case in drawn])[:, None]
        labels = torch.stack([to_shape(case[1], SHAPE) for case in drawn])
        axes = [axis + 1 for axis in range(3) if generator.random() < 0.5]
        loss = loss_of(network(image.flip([axis + 1 for axis in axes])), labels.flip(axes))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


def scores_of(network: nn.Module, image: Tensor) -> Tensor:
    """Return the class probabilities (K, Z, Y, X) of an image (Z, Y, X), padded by its border to what the strides divide."""
    shape = tuple(-(-n // 4) * 4 for n in image.shape)
    probabilities = network(to_shape(image, shape)[None, None]).softmax(1)[0]
    for axis, (n, size) in enumerate(zip(image.shape, shape, strict=True)):
        probabilities = probabilities.narrow(axis + 1, (size - n) // 2, n)
    return probabilities


def scores_at(network: nn.Module, image: Tensor, factor: float) -> Tensor:
    """Return the class probabilities (K, Z, Y, X) of the image, shown to the network `factor` times as large."""
    resized, _ = rescale(image, torch.zeros(image.shape, dtype=torch.long), factor)
    back = [spline_matrix(m, n, 1).float() for n, m in zip(image.shape, resized.shape, strict=True)]
    return apply_separable(scores_of(network, resized), back)


def mean_of(network: nn.Module, image: Tensor) -> Tensor:
    """Return the sum of the class probabilities over rescaled copies of the image."""
    return torch.stack([scores_at(network, image, factor) for factor in (0.8, 1.0, 1.25)]).sum(0)


def confident_of(network: nn.Module, image: Tensor) -> Tensor:
    """Return the mean of the class probabilities over rescaled copies, weighted by the Dice that the network expects of itself."""
    scores = torch.stack([scores_at(network, image, factor) for factor in (0.64, 0.8, 1.0, 1.25, 1.5625)])
    expected = torch.tensor([float(dice_of(sums_of(each, regions=False)).mean()) for each in scores])
    return torch.tensordot(torch.softmax(expected / 0.05, 0), scores, 1)


def dice(prediction: Tensor, labels: Tensor) -> float:
    """Return the mean Dice of the foreground classes."""
    pairs = [(prediction == c, labels == c) for c in range(1, CLASSES)]
    return float(np.mean([2 * float((p & t).sum()) / max(1.0, float(p.sum() + t.sum())) for p, t in pairs]))


WAYS = {"single": scores_of, "ensemble": mean_of, "confidence": confident_of}  # of test-time scale ensembling


@torch.no_grad()
def test(network: nn.Module, cases: list[tuple[Tensor, Tensor]], way: str) -> dict[str, float]:
    """Return the mean foreground Dice at each scale with one way of ensembling."""
    network.eval()
    found = {}
    for factor in SCALES:
        rescaled = [rescale(*case, factor) for case in cases]
        found[str(factor)] = float(np.mean([dice(WAYS[way](network, image).argmax(0), labels) for image, labels in rescaled]))
    return found


def run(
    cases: Cases, name: str, seed: int, steps: int, output: Path, ways: list[str], weights: Path | None, most: int = MOST_CASES
) -> None:
    """Train and test one design with one seed, once. If the weights of a finished run were kept, add missing ways of ensembling.

    Args:
        cases: see `load_cases`.
        name, seed, steps: name of the run, its seed and its number of steps.
        output: folder of the results.
        ways: ways of ensembling to test.
        weights: folder to keep trained weights in, or None.
        most: number of training cases.
    """
    few = "" if most == MOST_CASES else f"_of_{most}"
    path = output / f"{name.replace(':', '_').replace(',', '_')}_{steps}_{seed}{few}.json"
    kept = weights / f"{path.stem}.safetensors" if weights else None
    result: Result = read_json(path) if path.exists() else {
        "design": name, "cases": most, "seed": seed, "steps": steps, "dice": {}
    }  # fmt: skip
    missing = [way for way in ways if not result["dice"].get(way)]
    if path.exists() and not (missing and kept and kept.exists()):
        return
    training, testing = split(list(cases), seed, most)
    torch.manual_seed(seed)
    network = build(name)
    if path.exists() and kept:
        load_weights(network, kept)
    else:
        start = time.perf_counter()
        losses = train(network, [cases[case] for case in training], steps, seed, name.endswith("+scale"))
        result |= {"parameters": sum(parameter.numel() for parameter in network.parameters()), "seconds": time.perf_counter() - start,
                   "losses": [round(loss, 4) for loss in losses]}  # fmt: skip
        if kept:
            save_weights(network, kept)
    for way in missing:
        result["dice"][way] = test(network, [cases[case] for case in testing], way)
        write_json(path, result)
    print(f"{name:40s} seed {seed} steps {steps} {result['parameters']:7d} parameters {result['seconds']:6.0f} s  "
          + "  ".join(f"{scale}: {value:.3f}" for scale, value in result["dice"][ways[0]].items()), flush=True)  # fmt: skip


def main() -> None:
    """Run the named designs, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--designs", nargs="*", default=[])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--cases", type=int, default=MOST_CASES, help="number of training cases; default and most: %(default)s")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["single"], help="ways of scale ensembling in prediction")
    parser.add_argument("--weights", type=Path, help="folder for the trained weights")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--figure", type=Path, help="SVG file for the loss curves of the designs")
    parser.add_argument("--draw", nargs="*", help="designs to draw, instead of those that are run")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    for folder in (arguments.output, arguments.weights or arguments.output):
        folder.mkdir(parents=True, exist_ok=True)
    cases = load_cases(arguments.dataset) if arguments.designs else {}
    for seed in arguments.seeds:
        for name in arguments.designs:
            run(cases, name, seed, arguments.steps, arguments.output, arguments.ways, arguments.weights, arguments.cases)
    results = read_results(arguments.output)
    print(text_table(rows_of(results), columns_of(results)))
    if arguments.figure:
        draw_losses(results, arguments.figure, arguments.draw or arguments.designs)


if __name__ == "__main__":
    main()
