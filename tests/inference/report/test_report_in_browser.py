"""The report in a real browser: quiet console, pictures there, slider and keys, 400 % zoom, print. Skipped without Chromium."""

import html
import json
import re
import subprocess
from pathlib import Path

import pytest

from inference.report.page import Measured, model_page
from inference.report.trained import read_trained
from tests.inference.report.models import write_trained
from tests.inference.report.test_pages import CURVE
from tests.planners.report.test_browser import BROWSER, QUIET, visit

pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")]

TRIES = 4  # the browser writes the page down when it has nothing to do, which may be while another process decodes a picture

# Run inside the page, whose policy is taken away for it; the answer is left where --dump-dom shows it.
PROBE = """
addEventListener("load", async () => {
  const found = { width: innerWidth, overflow: document.documentElement.scrollWidth - innerWidth };
  const pictures = [...document.querySelectorAll("svg.slice image")];
  await Promise.all(pictures.map((picture) => picture.decode()));
  const visible = (slice) => getComputedStyle(slice).display !== "none";
  const positions = (viewer) => [...viewer.querySelectorAll(".slice")].filter(visible).map((slice) => slice.dataset.position);
  const shown = () => [...document.querySelectorAll(".viewer")].map(positions);
  const paths = (kind) => [...document.querySelectorAll(`.viewer .slice:not([hidden]) .${kind}`)];
  const drawn = (kind) => paths(kind).filter((path) => path.getBoundingClientRect().width).length;
  found.pictures = pictures.length;
  found.small = pictures.filter((picture) => picture.closest("figure") && picture.getBoundingClientRect().width < 40).length;
  found.before = shown();
  const slider = document.querySelector(".viewer input[type=range]"), stage = document.querySelector(".stage");
  slider.value = 0; slider.dispatchEvent(new Event("input")); found.first = shown()[0];
  const press = (key) => stage.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  press("ArrowRight"); found.next = shown()[0]; press("End"); found.last = shown()[0]; press("ArrowRight"); found.beyond = shown()[0];
  found.spoken = slider.getAttribute("aria-valuetext");
  press("Home"); for (let i = 0; i < 6; i++) press("ArrowUp");
  found.outlines = [drawn("reference"), drawn("prediction")];
  for (const box of document.querySelectorAll("input[type=checkbox]")) box.click();
  found.without = [drawn("reference"), drawn("prediction")];
  found.sizes = [...document.querySelectorAll("p, td, th, dd, li, figcaption")].map((node) => parseFloat(getComputedStyle(node).fontSize));
  found.sizes = Math.min(...found.sizes);
  const folded = document.body.appendChild(document.createElement("details"));
  dispatchEvent(new Event("beforeprint"));
  found.unfolded = folded.open;
  parent.postMessage(JSON.stringify(found), "*");
});
"""


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> str:
    return model_page(read_trained(write_trained(tmp_path_factory.mktemp("browser"))), Measured(CURVE), worst=2)


def probe(folder: Path, page: str, width: int) -> dict:
    """Open the page in a frame of so many CSS pixels: 320 is a window of 1280 at 400 % zoom."""
    free = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page).replace(
        "<script>", f"<script>{PROBE}</script><script>", 1
    )
    frame = f'<iframe style="border:0;width:{width}px;height:800px" srcdoc="{html.escape(free)}"></iframe><pre id="answer"></pre>'
    keep = "<script>addEventListener('message', (event) => { document.getElementById('answer').textContent = event.data; });</script>"
    path = folder / "frame.html"
    path.write_text(f"<!doctype html><meta charset=utf-8>{keep}{frame}", encoding="utf-8")
    command = [
        BROWSER,
        *QUIET,
        f"--user-data-dir={folder / 'profile'}",
        "--virtual-time-budget=20000",
        "--dump-dom",
        path.as_uri(),
    ]
    for _ in range(TRIES):
        done = subprocess.run(command, capture_output=True, timeout=120, check=False)
        answer = re.search(r'<pre id="answer">(.*?)</pre>', done.stdout.decode(), re.DOTALL)
        if answer and answer[1]:
            break
    assert answer and answer[1], done.stderr.decode()[-2000:]
    return json.loads(html.unescape(answer[1]))


def test_quiet_console_and_nothing_requested(tmp_path, text) -> None:
    assert visit(tmp_path, text) == ([], set())


def test_only_our_script_runs(tmp_path, text) -> None:
    console, requested = visit(
        tmp_path, text.replace("<main>", '<main><img src="http://127.0.0.1:9/x.png"><script>nothing()</script>')
    )
    assert len(console) == 2 and all("Content Security Policy" in line for line in console) and requested == set()


@pytest.mark.parametrize("width", [1280, 320], ids=["wide", "400 % zoom"])
def test_pictures_slider_and_keys(tmp_path, text, width) -> None:
    found = probe(tmp_path, text, width)
    assert found["width"] == width and found["overflow"] <= 0  # nothing is cut off at the side
    assert found["pictures"] == text.count("<image ") > 20 and found["small"] == 0
    assert [len(shown) for shown in found["before"]] == [1, 1]
    assert (found["first"], found["next"], found["last"], found["beyond"]) == (["0"], ["1"], ["11"], ["11"])
    assert found["spoken"] == "Z = 11"
    assert all(found["outlines"]) and found["without"] == [0, 0]
    assert found["sizes"] >= 12
    assert found["unfolded"]  # paper cannot be unfolded


def test_print_holds_everything(tmp_path, text) -> None:
    page, paper = tmp_path / "page.html", tmp_path / "page.pdf"
    page.write_text(text, encoding="utf-8")
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    subprocess.run(
        [BROWSER, *QUIET, profile, f"--print-to-pdf={paper}", page.as_uri()], capture_output=True, timeout=120, check=True
    )
    written = paper.read_bytes()
    assert written.startswith(b"%PDF") and 3 <= len(re.findall(rb"/Type\s*/Page\b", written)) <= 12
    assert len(re.findall(rb"/Subtype\s*/Image", written)) >= 10  # the montages
