"""Generated colour pictures with known truth, written as a dataset in the layout of nnU-Net for natural images.

Each picture shows stained tissue with round cells of two kinds, `blue` and `red`. Both are equally dark, so that only colours tell them
apart. The label maps are palette pictures, in which labels can be seen.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from configs.files import replacing, write_json

LABELS = {"background": 0, "blue": 1, "red": 2}
COLOURS = {"background": (236, 214, 226), "blue": (70, 96, 190), "red": (190, 58, 70)}  # of tissue and of cells
_BORDER = 1.5  # pixels over which a cell fades
_NOISE = 9.0  # deviation of the noise, in the unit of the colours


def write_cells(folder: Path, training: int = 20, unseen: int = 4, side: int = 128, seed: int = 0) -> None:
    """Write `imagesTr`, `labelsTr`, `imagesTs`, `labelsTs` and `dataset.json`. Equal arguments give equal pixels.

    Args:
        folder: dataset folder.
        training: number of training cases.
        unseen: number of unseen cases.
        side: height and width in pixels.
        seed: seed of the random numbers.
    """
    for index in range(training + unseen):
        part, case = "Tr" if index < training else "Ts", f"cells_{index:03d}"
        picture, labels = make_cells(side, np.random.default_rng((seed, index)))
        _save(folder / f"images{part}" / f"{case}_0000.png", Image.fromarray(picture))
        _save(folder / f"labels{part}" / f"{case}.png", _with_palette(labels))
    description = {
        "channel_names": {"0": "R", "1": "G", "2": "B"},
        "normalisation": dict.fromkeys("012", "rgb_to_0_1"),
        "labels": LABELS,
        "file_ending": ".png",
    }
    write_json(folder / "dataset.json", description)


def make_cells(side: int, random: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a picture (Y, X, 3) and its label values (Y, X)."""
    y, x = np.mgrid[:side, :side]
    picture = np.ones((side, side, 1)) * COLOURS["background"]
    labels = np.zeros((side, side), np.uint8)
    for _ in range(random.integers(6, 13)):
        name = ("blue", "red")[random.integers(2)]
        centre, radius = random.uniform(0, side, 2), side * random.uniform(0.04, 0.1)
        depth = radius - np.hypot(y - centre[0], x - centre[1])
        share = np.clip(depth / _BORDER + 0.5, 0, 1)[..., None]
        picture = picture * (1 - share) + share * (np.array(COLOURS[name]) + random.normal(0, 8, 3))
        labels[depth > 0] = LABELS[name]
    return np.clip(picture + random.normal(0, _NOISE, picture.shape), 0, 255).astype(np.uint8), labels


def _with_palette(labels: NDArray[np.uint8]) -> Image.Image:
    picture = Image.fromarray(labels)
    picture.putpalette([part for name in LABELS for part in COLOURS[name]])
    return picture


def _save(path: Path, picture: Image.Image) -> None:
    with replacing(path) as temporary:
        picture.save(temporary, format="png")
