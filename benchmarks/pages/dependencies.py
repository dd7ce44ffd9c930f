"""Declared dependencies of the software, and their installed versions."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "pyproject.toml"


@dataclass(frozen=True)
class Library:
    """An installed library and the libraries that need it; `""` is the software itself."""

    installed: Distribution
    bringers: set[str] = field(default_factory=set)


def declared(path: Path = PROJECT) -> list[Requirement]:
    """Return the dependencies that every installation includes."""
    return [Requirement(line) for line in _project(path)["dependencies"]]


def optional(path: Path = PROJECT) -> dict[str, list[Requirement]]:
    """Return the dependencies that each extra adds."""
    return {extra: list(map(Requirement, lines)) for extra, lines in _project(path)["optional-dependencies"].items()}


def pinned(path: Path) -> dict[str, str]:
    """Return the versions by name from the lines of a constraints file that apply to this Python."""
    lines = [line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    requirements = [Requirement(line) for line in lines if line]
    return {
        canonicalize_name(each.name): str(each.specifier).removeprefix("==")
        for each in requirements
        if each.marker is None or each.marker.evaluate()
    }


def with_all_they_bring(requirements: Iterable[Requirement]) -> dict[str, Library]:
    """Return the installed libraries by name: the requirements and everything that they need in turn."""
    found: dict[str, Library] = {}
    waiting = [(requirement, "") for requirement in requirements]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        wanted, bringer = waiting.pop()
        name = canonicalize_name(wanted.name)
        try:
            library = found.setdefault(name, Library(distribution(name)))
        except PackageNotFoundError:  # for another system
            continue
        library.bringers.add(bringer)
        if (name, frozenset(wanted.extras)) not in seen:
            seen.add((name, frozenset(wanted.extras)))
            needed = map(Requirement, library.installed.requires or ())
            waiting += [(each, name) for each in needed if _is_needed(each, wanted.extras)]
    return dict(sorted(found.items()))


def _is_needed(requirement: Requirement, extras: Iterable[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))


def _project(path: Path) -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    return project
