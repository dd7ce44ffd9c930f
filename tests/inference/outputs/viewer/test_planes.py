"""The data of the viewer: what the browser unpacks is what was packed, small enough for a page, and equal every time."""

import base64
import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from configs.dataset import DatasetDescription
from inference.outputs.viewer.page import write_viewer
from inference.outputs.viewer.planes import Layer, choose_steps, legend, pack_planes
from preprocessing.geometry.affine import Geometry
from preprocessing.pages.drawn_image import drawn_image

LABELS = DatasetDescription(name="toy", channels=("CT",), labels={"background": 0, "liver": 4, "cyst": 9, "ignore": 11})
COLOURS = ["#ff0000", "#00ff00"]
SHAPE = (6, 8, 10)


def case() -> tuple[np.ndarray, Layer]:
    image = np.random.default_rng(0).normal(0, 100, SHAPE).astype(np.float32)
    labels = np.zeros(SHAPE, np.int16)
    labels[2:4, 3:6, 4:9], labels[5, 7, 9] = 2, 3  # the second is ignored
    return image, Layer("reference", labels, True)


def unpacked(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(gzip.decompress(base64.b64decode(text)), kind)


def test_what_is_packed_is_unpacked() -> None:
    image, layer = case()
    planes = pack_planes("c", image, [layer], (3, 1, 2), LABELS, COLOURS)
    content = json.loads(planes.data)
    assert planes.shape == SHAPE and content["size"] == [18, 8, 20] and not planes.is_colour
    low, high = content["range"]
    levels = unpacked(content["image"], "u1").reshape(SHAPE)
    inside = (image >= low) & (image <= high)
    assert inside.mean() > 0.99 and np.abs(low + levels / 255 * (high - low) - image)[inside].max() <= (high - low) / 509
    labels = unpacked(content["layers"][0]["labels"], "<u2").reshape(SHAPE)
    assert np.array_equal(labels, np.where(layer.labels == 3, 0, layer.labels))
    assert content["labels"] == {"1": ["liver", "#ff0000"], "2": ["cyst", "#00ff00"]}
    assert labels[tuple(content["start"])] == 2
    assert planes == pack_planes("c", image, [layer], (3, 1, 2), LABELS, COLOURS)


def test_large_images_are_thinned_where_voxels_are_finest() -> None:
    assert choose_steps(SHAPE, (3, 1, 1), 1000) == (1, 1, 1)
    assert choose_steps((100, 512, 512), (5, 0.8, 0.8), 400_000) == (2, 7, 7)
    assert choose_steps((1, 4000, 4000), (1, 1, 1), 1_000_000) == (1, 4, 4)
    image, layer = case()
    content = json.loads(pack_planes("c", image, [layer], (3, 1, 1), LABELS, COLOURS, most=130).data)
    assert content["shape"] == [6, 4, 5] and content["size"] == [18, 8, 10] and content["steps"] == [1, 2, 2]
    labels = unpacked(content["layers"][0]["labels"], "<u2").reshape(6, 4, 5)
    assert np.array_equal(labels == 2, layer.labels[:, ::2, ::2] == 2)


def test_colours_and_regions() -> None:
    colour = DatasetDescription(name="x", channels=("R", "G", "B"), labels={"background": 0, "a": 1})
    image = np.random.default_rng(0).integers(0, 256, (3, 1, 8, 10)).astype(np.float32)
    shown = drawn_image(image, colour)
    assert shown.dtype == np.uint8 and np.array_equal(shown, np.moveaxis(image, 0, -1))
    assert np.array_equal(drawn_image(image, colour.model_copy(update={"channels": ("T1", "T2", "FLAIR")})), image[0])
    brightest = image.max()
    assert np.abs(drawn_image(257 * image, colour) - image.transpose(1, 2, 3, 0) * (255 / brightest)).max() <= 1
    planes = pack_planes("c", shown, [], (1, 1, 1), colour, ["#ff0000"])
    assert planes.is_colour and np.array_equal(unpacked(json.loads(planes.data)["image"], "u1"), shown.ravel())
    regions = DatasetDescription(
        name="x", channels=("MR",), labels={"background": 0, "whole": (1, 2), "core": (2,)}, regions_class_order=(1, 2)
    )
    assert legend(regions, COLOURS) == {1: ("whole", "#ff0000"), 2: ("whole, core", "#00ff00")}


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", 'a" onload="x', "Größe & Co"])
def test_names_are_escaped_and_pages_are_whole(tmp_path: Path, name: str) -> None:
    image, _ = case()
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:4] = 4
    grid = Geometry.from_spacing(SHAPE, (3, 1, 1))
    description = LABELS.model_copy(update={"labels": {"background": 0, name: 4}})
    write_viewer(tmp_path / "a.html", name, image[None], labels, grid, description)
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert text.count("<script") == 1 and 'onload="x' not in text and text.rstrip().endswith("</html>")
    assert "http" not in text.replace("http-equiv", "")
    write_viewer(tmp_path / "b.html", name, image[None], labels, grid, description)
    assert (tmp_path / "b.html").read_bytes() == (tmp_path / "a.html").read_bytes()
