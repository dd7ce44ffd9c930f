"""Measure the scale equivariance error of layers and networks for factors from 0.7 to 1.4.

    python -m benchmarks.sizes.equivariance -o equivariance.json                            # layers and untrained networks
    python -m benchmarks.sizes.equivariance --models se_work/D/models/*_se se_work/D/models/*_baseline --images ../shared/data/D
    python -m benchmarks.sizes.equivariance --models FOLDER ... --sizes 3 7         # also of the mean over so many sizes of the image

`e(a) = mean |f(L_a x) - L_a f(x)|^2 / var(L_a f(x))`, as in `se_unet.equivariance`: 0 for an equivariant module, about 1 if the answers
at both sizes are unrelated. The step of a layer's group is the factor itself, so that scale k of one answer is scale k + 1 of the other.
An ordinary convolution is the negative control of the layers, and the plain network that of the networks. The networks have equal
multiply-adds and average over their scales. Fields are random and band-limited. `--images` also measures the untrained networks on some
images of a dataset. Trained models, given by their folders, are measured as `se_report` does it, on their own validation cases and on
fields; each keeps its curve in its folder. A CSV with one row for each curve and a figure lie beside the JSON. Results
of the same settings that the JSON already holds are not measured again.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.common.figures import svg_axes
from benchmarks.common.tables import text_table, write_csv
from benchmarks.cost.networks import NETWORKS, PLAIN, describe, equal_cost
from configs.files import read_json, write_json
from inference.engine.scaling import scale_image
from inference.evaluation.equivariance import (
    FACTORS,
    case_errors,
    equivariance_curve,
    probability_function,
    seen_grid,
    validation_images,
)
from inference.model import load_model
from inference.report.trained import TrainedModel, read_trained
from preprocessing.dataset.raw import open_dataset
from preprocessing.formats.images import read_image
from se_unet import GroupConvolution, LiftingConvolution, build_network
from se_unet.cost import multiply_adds
from se_unet.cpu.allocator import keep_freed_memory
from se_unet.equivariance import equivariance_error
from se_unet.separable import apply_separable, gaussian_matrix, spline_matrix

SMALLEST, SCALES = 0.9, 4  # of the layers: voxels, and how many
SIZE = 64  # voxels along each axis of what networks see
LAYER_CHANNELS = 4
SMOOTHING = 3.0  # voxels, of the fields: what networks tell apart are structures of some voxels
ENSEMBLE_STEP = 1.25  # between sizes of an ensemble
IMAGE_BLUR = 1.0  # voxels: takes away what a shrunken grid could not hold
Row = dict[str, Any]


LAYERS = ("ordinary convolution", "lifting", "group convolution", "lifting, 5 sampled taps")


def main(words: Sequence[str] | None = None) -> int:
    """Measure what is missing, print a table, and write JSON, CSV and figure. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, nargs="*", default=[], help="folders of trained models")
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[],
        help="numbers of image sizes (3, 5, ...) whose mean answer is measured as well",
    )
    parser.add_argument("--images", type=Path, help="raw dataset whose images the untrained networks also see")
    parser.add_argument("--cases", type=int, default=2, help="number of cases of that dataset; default: %(default)s")
    parser.add_argument(
        "--factors", type=float, nargs="+", default=list(FACTORS), help="factors for untrained layers and networks"
    )
    parser.add_argument(
        "--features", type=int, default=4, help="features of the plain network's first stage; default: %(default)s"
    )
    parser.add_argument(
        "--weights", type=int, default=2, help="number of random weights of each, whose errors are averaged; default: %(default)s"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, default=Path("equivariance.json"))
    arguments = parser.parse_args(words)
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    rows = measured(arguments)
    flat = [flattened(row) for row in rows]
    factors = sorted({factor for row in rows for factor in row["errors"]}, key=float)
    print(text_table(flat, {"kind": "{}", "name": "{}", "on": "{}", "mean": "{:.2g}"} | dict.fromkeys(factors, "{:.2g}")))
    write_csv(
        [{name: row.get(name) for name in (*IDENTITY, "mean", *factors)} for row in flat], arguments.output.with_suffix(".csv")
    )
    draw(rows, arguments.output.with_suffix(".svg"))
    return 0


TRAINED = "trained network"  # a kind of row
IDENTITY = ("kind", "name", "on", "settings")


def measured(arguments: argparse.Namespace) -> list[Row]:
    """Return the requested rows, from the JSON or newly measured. Rows of other settings stay in the JSON and are left out."""
    known: list[Row] = read_json(arguments.output)["rows"] if arguments.output.is_file() else []
    rows = []
    for key, measure in to_measure(arguments):
        row = next((one for one in known if key.items() <= one.items()), None)
        if row is None:
            errors = measure()
            row = key | {"mean": sum(errors.values()) / len(errors), "errors": errors}
            known.append(row)
            write_json(arguments.output, {"torch": torch.__version__, "rows": known})
            print(f"{key['kind']}, {key['name']}, {key['on']}: done", file=sys.stderr, flush=True)
        rows.append(row)
    return rows


def to_measure(arguments: argparse.Namespace) -> Iterator[tuple[Row, Callable[[], dict[str, float]]]]:
    """Yield everything to measure: the values that identify its row, and the function that measures it."""
    factors, weights = arguments.factors, arguments.weights
    asked = f"{' '.join(f'{factor:g}' for factor in factors)}; {weights} weights"
    for name in LAYERS:
        key = dict(zip(IDENTITY, ("layer", name, "fields", asked), strict=True))
        yield key, partial(of_layer, name, factors, weights)
    sized = f"{asked}; {arguments.features} features"
    for name, make in untrained(arguments.features).items():
        key = dict(zip(IDENTITY, ("untrained network", name, "fields", sized), strict=True))
        yield key, partial(on_fields, make, factors, weights, size=SIZE, stride=4, smoothing=SMOOTHING, seeds=(0,))
        if arguments.images:
            found = f"{sized}; {arguments.images.name}, {arguments.cases} cases"
            key = dict(zip(IDENTITY, ("untrained network", name, "images", found), strict=True))
            yield key, partial(on_images, make, factors, weights, arguments.images, arguments.cases)
    for folder in arguments.models:
        model = read_trained(folder)
        curve = equivariance_curve(folder, "cpu")  # kept in the folder, as long as its weights are these
        name = name_of(model)
        settings = f"fold {curve.fold}, {curve.weights[:12]}"
        for on, errors in (("fields", curve.on_fields), ("images", curve.on_cases)):
            if errors is not None:
                key = dict(zip(IDENTITY, (TRAINED, name, on, settings), strict=True))
                yield key, partial(written, curve.factors, errors)
        for number in arguments.sizes:
            key = dict(zip(IDENTITY, (TRAINED, name, f"images, mean of {number} sizes", settings), strict=True))
            yield key, partial(of_mean, model, curve.fold, number)


def name_of(model: TrainedModel) -> str:
    """Return dataset and folder of a trained model, and the number of its scales if it has several."""
    folder, group = model.folder.resolve(), model.plan.network.network.scale_group
    scales = f", {group.number} scales" if group and group.number > 1 else ""
    return f"{folder.parents[1].name}, {folder.name}{scales}"


def of_layer(name: str, factors: Sequence[float], weights: int) -> dict[str, float]:
    """Return the errors of a layer on random fields, as means over random weights."""
    errors = [sum(layer_error(name, factor, seed) for seed in range(weights)) / weights for factor in factors]
    return written(factors, errors)


def layer_error(name: str, factor: float, seed: int) -> float:
    """Return the error of a layer with the random weights of a seed. The factor must not be 1."""
    step, shift = max(factor, 1 / factor), 1 if factor > 1 else -1
    sigmas = [(SMALLEST * step**k,) * 3 for k in range(SCALES)]
    torch.manual_seed(seed)
    window: dict[str, Any] = {"size": 48, "interior": 11, "seeds": (seed,)}
    if name == "ordinary convolution":
        return equivariance_error(nn.Conv3d(1, LAYER_CHANNELS, 3, padding=1).requires_grad_(False), factor, **window)
    if name == "group convolution":
        layer = GroupConvolution(LAYER_CHANNELS, LAYER_CHANNELS, sigmas).requires_grad_(False)
        return equivariance_error(layer, factor, channels=LAYER_CHANNELS, scales=SCALES, shift=shift, **window)
    sampled: dict[str, Any] = {"taps": "sampled", "size": 5, "engine": "dense"} if "sampled" in name else {}
    lifting = LiftingConvolution(1, LAYER_CHANNELS, sigmas, **sampled).requires_grad_(False)
    return equivariance_error(lifting, factor, shift=shift, **window)


def untrained(features: int) -> dict[str, Callable[[], nn.Module]]:
    """Return the networks of `benchmarks.cost.networks`, which have equal multiply-adds and average over scales."""
    shape = (1, 1, 40, 40, 40)
    wanted = multiply_adds(build_network(describe(PLAIN, features)), shape)
    made: dict[str, Callable[[], nn.Module]] = {}
    for name in NETWORKS:
        config = describe(PLAIN, features) if name == PLAIN else equal_cost(name, wanted, shape)
        made[name] = partial(build_network, config.model_copy(update={"projection": "mean"}))
    return made


def on_fields(make: Callable[[], nn.Module], factors: Sequence[float], weights: int, **settings: Any) -> dict[str, float]:
    """Return the errors on random fields, as means over random weights."""
    modules = [with_seed(make, seed) for seed in range(weights)]
    errors = [sum(equivariance_error(module, factor, **settings) for module in modules) / weights for factor in factors]
    return written(factors, errors)


def on_images(
    make: Callable[[], nn.Module], factors: Sequence[float], weights: int, dataset: Path, cases: int
) -> dict[str, float]:
    """Return the errors on images of a dataset, as means over random weights."""
    images = [real_image(files.images) for _, files in sorted(open_dataset(dataset).cases.items())[:cases]]
    shape, origin = (SIZE,) * 3, (SIZE // 2,) * 3
    curves = [case_errors(with_seed(make, seed), images, shape, origin, factors) for seed in range(weights)]
    return written(factors, [sum(errors) / weights for errors in zip(*curves, strict=True)])


@torch.no_grad()
def of_mean(model: TrainedModel, fold: str, number: int) -> dict[str, float]:
    """Return the errors of the mean answer over image sizes, on the validation cases of a fold."""
    loaded = load_model(model.folder, [fold])
    planned, has_regions = loaded.plan.network, model.plan.dataset.has_regions
    single = probability_function(loaded.networks[fold].eval(), has_regions, torch.device("cpu"))
    factors = [ENSEMBLE_STEP ** (index - (number - 1) / 2) for index in range(number)]
    function = partial(mean_over_sizes, single, factors, planned.network.total_stride)
    images = list(validation_images(model.folder, model.plan, fold).values())
    return written(FACTORS, case_errors(function, images, *seen_grid(planned), FACTORS))


def mean_over_sizes(
    function: Callable[[Tensor], Tensor], factors: Sequence[float], stride: Sequence[int], image: Tensor
) -> Tensor:
    """Return the mean answer to an image (1, C, Z, Y, X) that is resampled to several sizes, on the image's grid."""
    total = torch.zeros(())
    for factor in factors:
        shape = [max(step, round(size * factor / step) * step) for size, step in zip(image.shape[2:], stride, strict=True)]
        answer = function(scale_image(image[0], (shape[0], shape[1], shape[2]))[None])
        back = [spline_matrix(have, size, 1).float() for have, size in zip(shape, image.shape[2:], strict=True)]
        total = total + apply_separable(answer, back)
    return total / len(factors)


def real_image(files: Sequence[Path]) -> tuple[Tensor, list[int]]:
    """Return the first channel of an image, standardised and slightly blurred, as (1, Z, Y, X), and its middle voxel."""
    image = torch.from_numpy(read_image(list(files))[0][:1].astype("float32"))
    image = (image - image.mean()) / image.std()
    blurs = [gaussian_matrix(size, IMAGE_BLUR).float() for size in image.shape[1:]]
    return apply_separable(image, blurs), [size // 2 for size in image.shape[1:]]


def with_seed(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Return a module with the random weights of a seed."""
    torch.manual_seed(seed)
    return make().eval().requires_grad_(False)


def written(factors: Sequence[float], errors: Sequence[float]) -> dict[str, float]:
    """Return errors by factor in the form of the JSON file."""
    return {f"{factor:g}": float(error) for factor, error in zip(factors, errors, strict=True)}


def flattened(row: Row) -> Row:
    """Return a row of the table."""
    return {name: value for name, value in row.items() if name != "errors"} | row["errors"]


def pooled(rows: Sequence[Row]) -> list[Row]:
    """Average the errors of trained models with the same folder name into one row, with their number in `models`. Other rows stay."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        alike = {"name": row["name"].partition(", ")[2], "settings": ""} if row["kind"] == TRAINED else {}
        groups.setdefault(tuple((row | alike)[part] for part in IDENTITY), []).append(row)
    found = []
    for identity, members in groups.items():
        errors = {factor: sum(row["errors"][factor] for row in members) / len(members) for factor in members[0]["errors"]}
        key = dict(zip(IDENTITY, identity, strict=True)) | {"models": len(members)}
        found.append(key | {"mean": sum(errors.values()) / len(errors), "errors": errors})
    return found


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw the errors over the factor, in one panel for each kind of module and input. A trained network has one colour in all panels."""
    rows = pooled(rows)
    panels = list(dict.fromkeys((row["kind"], row["on"]) for row in rows))
    colours = {
        (kind, name): f"C{index}"
        for kind, _ in panels
        for index, name in enumerate(dict.fromkeys(row["name"] for row in rows if row["kind"] == kind))
    }
    with svg_axes(path, 4.6, 4.2, len(panels)) as axes:
        for panel, (kind, on) in zip([axes] if len(panels) == 1 else axes, panels, strict=True):
            for row in (row for row in rows if (row["kind"], row["on"]) == (kind, on)):
                places = sorted(row["errors"], key=float)
                panel.plot(
                    [float(place) for place in places],
                    [row["errors"][place] for place in places],
                    marker=".",
                    label=row["name"],
                    color=colours[kind, row["name"]],
                )
            panel.set(title=f"{kind}, {on}", xlabel="factor of the size", ylabel="equivariance error", yscale="log")
            panel.grid(alpha=0.3)
            panel.legend(frameon=False, fontsize="x-small", loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=1)


if __name__ == "__main__":
    sys.exit(main())
