"""Compare resampling by matrix products and by scikit-image: time, peak memory and difference on one image, on one thread.

Both take turns. Ours builds its matrices again in every round. Memory is the peak of the process beyond its memory at the beginning, as
Linux counts it, divided by the size of the result (which is part of it). Each is measured in a process of its own.

    python -m benchmarks.cost.resampling --output resampling.json
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.transform import resize

from benchmarks.common.tables import text_table
from configs.files import write_json
from preprocessing.resample import IMAGE_ORDER, LABEL_ORDER, apply_matrices, resample_image, resample_labels, resampling_matrices
from se_unet.separable import spline_matrix

Shape = tuple[int, int, int]
OURS, PEER = "se_unet", "scikit-image"
_CLASSES = 5


def image_of(shape: Shape) -> NDArray[np.float32]:
    """Return smooth noise of standard deviation 1 with some white noise."""
    random = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(random.normal(size=shape), 3)
    made: NDArray[np.float32] = (smooth / smooth.std() + 0.1 * random.normal(size=shape)).astype(np.float32)
    return made


def labels_of(shape: Shape) -> NDArray[np.int16]:
    """Return regions between levels of smooth noise as labels."""
    smooth = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=shape), 8)
    return np.digitize(smooth / smooth.std(), np.linspace(0, 2, _CLASSES - 1)).astype(np.int16)


def ours(image: NDArray[np.float32], shape: Shape) -> NDArray[np.float32]:
    """The whole of it, with the matrices."""
    _build_matrices(image.shape, shape, IMAGE_ORDER)
    return resample_image(image[None], shape)[0]


def theirs(image: NDArray[np.float32], shape: Shape) -> NDArray[np.float32]:
    """Resample an image as nnU-Net does."""
    resized: NDArray[np.float32] = resize(image, shape, order=3, mode="edge", anti_aliasing=False)
    return resized


def our_labels(labels: NDArray[np.int16], shape: Shape) -> NDArray[np.int16]:
    """The whole of it, with the matrices."""
    _build_matrices(labels.shape, shape, LABEL_ORDER)
    return resample_labels(labels, shape)


def their_labels(labels: NDArray[np.int16], shape: Shape) -> NDArray[np.int16]:
    """Resample labels class by class as nnU-Net does: a voxel belongs to a class of which it has at least a half."""
    result = np.zeros(shape, np.int16)
    for index in range(1, _CLASSES):
        result[resize((labels == index).astype(float), shape, order=1, mode="edge", anti_aliasing=False, clip=True) >= 0.5] = (
            index
        )
    return result


def _build_matrices(shape: Sequence[int], new_shape: Shape, order: int) -> None:
    """What the first call builds; later ones find it kept."""
    for inputs, outputs in zip(shape, new_shape, strict=True):
        spline_matrix.__wrapped__(inputs, outputs, order, torch.float32)  # type: ignore[attr-defined]


TASKS: dict[str, tuple[Callable[[Shape], NDArray], dict[str, Callable[[NDArray, Shape], NDArray]]]] = {
    "image": (image_of, {OURS: ours, PEER: theirs}),
    "labels": (labels_of, {OURS: our_labels, PEER: their_labels}),
}


def seconds_in_turn(task: str, shape: Shape, new_shape: Shape, rounds: int) -> dict[str, list[float]]:
    """Return the wall time of each in each round, in seconds. A first round does not count."""
    make, functions = TASKS[task]
    array = make(shape)
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for index in range(rounds + 1):
        for name, function in functions.items():
            begin = time.perf_counter()
            function(array, new_shape)
            if index:
                seconds[name].append(time.perf_counter() - begin)
    return seconds


def peak_share(task: str, name: str, shape: Shape, new_shape: Shape) -> float:
    """Return the peak memory beyond the memory at the beginning, in sizes of the result. It needs a process of its own, and Linux."""
    torch.set_num_threads(1)
    make, functions = TASKS[task]
    functions[name](make((16, 16, 16)), (20, 20, 20))  # libraries take some memory at the first call
    array = make(shape)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _status("VmRSS")
    result = functions[name](array, new_shape)
    return (_status("VmHWM") - before) / result.nbytes


def _status(field: str) -> int:
    """Return a memory figure of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def difference(shape: Shape, new_shape: Shape) -> float:
    """Return the largest difference before values are limited to the image's range, as a share of that range."""
    image = image_of(shape)
    matrices = resampling_matrices(shape, new_shape, IMAGE_ORDER, None)
    one = apply_matrices(torch.from_numpy(image), matrices).numpy()
    other = resize(image, new_shape, order=3, mode="edge", anti_aliasing=False, clip=False)
    return float(np.abs(one - other).max() / np.ptp(image))


def measure(task: str, shape: Shape, new_shape: Shape, rounds: int) -> list[dict[str, Any]]:
    """Return one row of the table for each of the two."""
    seconds = seconds_in_turn(task, shape, new_shape, rounds)
    rows = []
    for name, taken in seconds.items():
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            memory = alone.submit(peak_share, task, name, shape, new_shape).result()
        ratios = [other / own for own, other in zip(taken, seconds[PEER], strict=True)]
        rows.append(
            {
                "task": task,
                "library": name,
                "seconds": statistics.median(taken),
                "times_faster": statistics.median(ratios),
                "lowest": min(ratios),
                "highest": max(ratios),
                "peak_results": memory,
            }
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table and write a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=(160, 200, 180), metavar=("Z", "Y", "X"))
    parser.add_argument("--new-shape", type=int, nargs=3, default=(220, 256, 240), metavar=("Z", "Y", "X"))
    parser.add_argument("--rounds", type=int, default=7, help="number of rounds; default: %(default)s")
    parser.add_argument("--output", type=Path, default=Path("resampling.json"))
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    shape, new_shape = tuple(given.shape), tuple(given.new_shape)
    rows = [row for task in TASKS for row in measure(task, shape, new_shape, given.rounds)]
    deviation = difference(shape, new_shape)
    print(text_table(rows, COLUMNS))
    print(f"\nLargest difference of images before clipping, as a part of the image's range: {deviation:.1e}")
    result = {"shape": shape, "new_shape": new_shape, "rounds": given.rounds, "difference_of_range": deviation, "rows": rows}
    write_json(given.output, result)


COLUMNS = {
    "task": "{}",
    "library": "{}",
    "seconds": "{:.3f}",
    "times_faster": "{:.1f}",
    "lowest": "{:.1f}",
    "highest": "{:.1f}",
    "peak_results": "{:.2f}",
}

if __name__ == "__main__":
    main()
