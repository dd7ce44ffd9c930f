"""The site of the documentation: built without warnings, every link leads to a file, nothing is fetched from elsewhere."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.pages.site import build, faults


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mkdocstrings") is None, reason="mkdocs-material is not installed; `make docs` does")
def test_the_site_is_built_and_whole(tmp_path: Path) -> None:
    built = build(tmp_path)
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "index.html").is_file() and not faults(tmp_path)


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        ('<img src="https://example.org/a.png">', "fetches https://example.org/a.png"),
        ('<link rel="stylesheet" href="//example.org/a.css">', "fetches //example.org/a.css"),
        ('<a href="gone.html">', "links to gone.html, which is not there"),
        ('<a href="index.html#gone">', "links to index.html#gone, which is not there"),
        ('<script src="gone.js"></script>', "links to gone.js, which is not there"),
    ],
)
def test_the_check_sees_a_fault(tmp_path: Path, page: str, fault: str) -> None:
    (tmp_path / "index.html").write_text(page)
    assert faults(tmp_path) == [f"index.html {fault}"]


def test_the_check_takes_links_that_lead_somewhere(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "index.html").write_text('<a href="../b.html#there">')
    (tmp_path / "b.html").write_text('<p id="there"><a href="https://example.org"><a href="a/"><a href="#there">')
    assert not faults(tmp_path)
