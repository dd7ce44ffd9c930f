"""The viewer in a real browser without network: what it draws, and what moves it. Skipped without Chromium."""

import html
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from configs.dataset import DatasetDescription
from inference.outputs.viewer.page import write_viewer
from preprocessing.geometry.affine import Geometry
from tests.planners.report.test_browser import BROWSER, QUIET, visit

pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")]

SHAPE = (6, 8, 10)
LABELS = DatasetDescription(name="toy", channels=("CT",), labels={"background": 0, "liver": 4})
COLOUR = DatasetDescription(name="toy", channels=("R", "G", "B"), labels={"background": 0, "liver": 4})
TRIES = 4

# Run behind the viewer's script, without the page's policy; the answer is left where --dump-dom shows it.
PROBE = """
addEventListener("load", async () => {
  const viewer = document.querySelector(".planes");
  for (let i = 0; i < 200 && viewer.hidden; i++) await new Promise((done) => setTimeout(done, 10));
  const planes = [...viewer.querySelectorAll(".plane")];
  const output = () => viewer.querySelector("output").textContent;
  const pixel = (axis, x, y) =>
    [...planes[axis].querySelector("canvas").getContext("2d").getImageData(x, y, 1, 1).data].slice(0, 3);
  const set = (input, value) => { input.value = value; input.dispatchEvent(new Event("input")); };
  const found = { hidden: viewer.hidden, start: output(), sizes: [], overflow: document.documentElement.scrollWidth - innerWidth };
  for (const plane of planes) {
    const { width, height } = plane.getBoundingClientRect(), canvas = plane.querySelector("canvas");
    found.sizes.push([canvas.width, canvas.height, Math.round((100 * width) / height)]);
  }
  const [z, y, x] = viewer.querySelectorAll(".view input");
  set(z, 3);
  if (planes.length > 1) { set(y, 2); set(x, 7); }
  found.moved = output();
  found.labelled = pixel(0, 4, 1);
  found.bare = pixel(0, 0, 7);
  set(viewer.querySelector("[name=opacity]"), 1); found.opaque = pixel(0, 4, 1);
  viewer.querySelector("[name=prediction]").click(); await new Promise((done) => setTimeout(done)); found.without = pixel(0, 4, 1);
  const white = viewer.querySelector("[name=white]");
  if (white) {
    set(viewer.querySelector("[name=black]"), 0);
    set(white, 255); found.grey = pixel(0, 1, 7);
    set(white, 56); found.bright = pixel(0, 1, 7);
  }
  const place = planes[0].getBoundingClientRect();
  const event = { clientX: place.left + 1, clientY: place.top + 1, pointerId: 1, bubbles: true };
  planes[0].setPointerCapture = () => {};
  planes[0].dispatchEvent(new PointerEvent("pointerdown", event));
  found.clicked = output();
  planes[0].dispatchEvent(new KeyboardEvent("keydown", { key: "End" }));
  found.last = output();
  document.body.innerHTML = "";
  document.body.appendChild(document.createElement("pre")).textContent = JSON.stringify(found);
});
"""


def page(path: Path, description: DatasetDescription, shape: tuple[int, ...] = SHAPE) -> str:
    """An image that is bright in its upper left front corner, with a label over the front half."""
    image = np.zeros((len(description.channels), *shape), np.float32)
    image[0] = np.linspace(0, 200, shape[2])
    labels = np.zeros(shape, np.uint8)
    labels[:, shape[1] // 2 :, 2:6] = 4  # Y grows to the front, which is up in the first plane
    write_viewer(path, "case", image, labels, Geometry.from_spacing(shape, (3, 1, 1)), description)
    return path.read_text(encoding="utf-8")


def probe(folder: Path, text: str, width: int = 1280) -> dict:
    free = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    path = folder / "probe.html"
    path.write_text(free.replace("</body>", f"<script>{PROBE}</script></body>"), encoding="utf-8")
    files = (f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900", "--virtual-time-budget=8000", "--dump-dom")
    for _ in range(TRIES):
        done = subprocess.run([BROWSER, *QUIET, *files, path.as_uri()], capture_output=True, timeout=120, check=False)
        answer = re.search(r"<pre>(\{.*?\})</pre>", done.stdout.decode(), re.DOTALL)
        if answer:
            return json.loads(html.unescape(answer[1]))
    raise AssertionError(done.stderr.decode()[-2000:])


def test_the_page_is_quiet_and_requests_nothing(tmp_path: Path) -> None:
    assert visit(tmp_path, page(tmp_path / "a.html", LABELS)) == ([], set())


def test_three_planes_are_linked(tmp_path: Path) -> None:
    found = probe(tmp_path, page(tmp_path / "a.html", LABELS))
    assert not found["hidden"] and found["overflow"] <= 0
    assert found["sizes"] == [[10, 8, 125], [10, 6, 56], [8, 6, 44]]  # in proportion to mm: 10 : 8, 10 : 18 and 8 : 18
    assert found["start"].startswith("Z 2, Y 6, X 3;") and "prediction: liver" in found["start"]
    assert found["moved"].startswith("Z 3, Y 5, X 7; about 155;") and "prediction: background" in found["moved"]
    assert found["clicked"].startswith("Z 3, Y 7, X 0;") and found["last"].startswith("Z 5, Y 7, X 0;")


def test_overlay_opacity_and_window(tmp_path: Path) -> None:
    found = probe(tmp_path, page(tmp_path / "a.html", LABELS))
    assert found["bare"] == [0, 0, 0] and len(set(found["labelled"])) > 1  # grey where there is no label, else coloured
    assert found["opaque"] == [255, 225, 77] and len(set(found["without"])) == 1
    assert found["grey"] == [28, 28, 28] and found["bright"] == [128, 128, 128]  # half as wide a window, and then less


def test_a_colour_picture_has_one_plane_and_no_window(tmp_path: Path) -> None:
    found = probe(tmp_path, page(tmp_path / "a.html", COLOUR, (1, 8, 10)))
    assert found["sizes"] == [[10, 8, 125]] and "grey" not in found
    assert found["without"] == [88, 0, 0] and "window" not in found["start"] and "colour" in found["start"]
