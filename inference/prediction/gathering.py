"""Combine tables of single cases."""

from collections.abc import Iterable
from pathlib import Path

from configs.files import read_text, write_text


def gather(folder: Path, cases: Iterable[str], ending: str, name: str) -> Path | None:
    """Combine the tables `<case><ending>.csv` of a folder under this name, and return its path; None if there are none."""
    texts = [read_text(path) for case in sorted(cases) if (path := folder / f"{case}{ending}.csv").is_file()]
    if not texts:
        return None
    heading = texts[0].splitlines()[:1]
    write_text(folder / name, "\n".join([*heading, *(line for text in texts for line in text.splitlines()[1:])]) + "\n")
    return folder / name
