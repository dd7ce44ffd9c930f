"""Build the documentation's site, and check that it fetches nothing from elsewhere and that every link in it leads to a file.

python -m benchmarks.pages.site            # build ./site; exit code 1 where something is wrong
"""

import argparse
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[2]
SITE = ROOT / "site"
RESOURCES = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "link": "href",
    "object": "data",
}  # tag -> attribute


class Links(HTMLParser):
    """Addresses in a page: `fetched` by the browser itself, `followed` by a reader's click, and the `anchors` to which they lead."""

    def __init__(self, text: str):
        super().__init__()
        self.fetched: list[str] = []
        self.followed: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect the address that a tag holds, and its `id`."""
        found = dict(attrs)
        self.anchors.add(found.get("id") or "")
        if address := found.get(RESOURCES.get(tag, "")):
            self.fetched.append(address)
        if tag == "a" and (address := found.get("href")):
            self.followed.append(address)


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    """Build the site into a folder; a warning is an error."""
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--clean", "--site-dir", str(folder)]
    quiet = {"NO_MKDOCS_2_WARNING": "1"}  # an announcement of the theme's makers
    return subprocess.run(command, cwd=ROOT, env=os.environ | quiet, capture_output=True, text=True, check=False)


def faults(folder: Path) -> list[str]:
    """Return what is wrong with a built site: resources from elsewhere, and links that lead nowhere."""
    pages = {path: Links(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))}
    found = []
    for path, links in pages.items():
        for address in [*links.fetched, *links.followed]:
            url = urlsplit(address)
            if url.scheme or url.netloc:
                if address in links.fetched and url.scheme != "data":
                    found.append(f"{path.relative_to(folder)} fetches {address}")
                continue
            # The page that is shown for an unknown address names all files from the site's root.
            target = folder / url.path.lstrip("/") if url.path.startswith("/") else path.parent / unquote(url.path)
            target = (path if not url.path else target / "index.html" if target.is_dir() else target).resolve()
            if not target.is_file() or (url.fragment and target in pages and unquote(url.fragment) not in pages[target].anchors):
                found.append(f"{path.relative_to(folder)} links to {address}, which is not there")
    return found


def main() -> int:
    """Build and check the site. Returns the exit code."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    built = build(SITE)
    wrong = [line for line in built.stderr.splitlines() if line] if built.returncode else faults(SITE)
    print("\n".join(wrong) or f"The site is built: open {SITE / 'index.html'}, or serve {SITE} to search it")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
