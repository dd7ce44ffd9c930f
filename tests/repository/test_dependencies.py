"""What is declared is what is imported, has a licence that is allowed, a reason, and a lowest version that was tried."""

import re
import sys

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from benchmarks.pages import licences
from benchmarks.pages.dependencies import Library, declared, optional, pinned, with_all_they_bring
from tests.repository.test_imports import PACKAGES, ROOT, imported_names

MINIMUM = ROOT / "constraints-minimum.txt"
TESTED = ROOT / "constraints.txt"
OTHER_NAMES = {  # module -> library, where they differ
    "PIL": "pillow",
    "cc3d": "connected-components-3d",
    "mlflow": "mlflow-skinny",
    "skimage": "scikit-image",
}


class Metadata(dict[str, list[str]]):
    """Of a distribution that is not there."""

    def get_all(self, name: str, default: list[str]) -> list[str]:
        return self.get(name, default)


class Invented:
    """A distribution with this metadata."""

    requires = None

    def __init__(self, **fields: list[str]):
        self.metadata = Metadata({name.replace("_", "-"): lines for name, lines in fields.items()})


def library(**fields: list[str]) -> Library:
    return Library(Invented(**fields))  # type: ignore[arg-type]


def lowest(requirement: Requirement) -> Version | None:
    """The lower bound; None where there is none."""
    found = [Version(each.version) for each in requirement.specifier if each.operator == ">="]
    return max(found, default=None)


def bounds() -> dict[str, Version | None]:
    """Name -> the lowest version that is admitted, extras for users included."""
    extras = [each for extra, found in optional().items() if extra not in ("test", "check", "docs") for each in found]
    found: dict[str, Version | None] = {}
    for each in [*declared(), *extras]:
        name, bound = canonicalize_name(each.name), lowest(each)
        found[name] = max(found.get(name) or bound, bound) if bound else None
    return found


def not_in_step(admitted: dict[str, Version | None], tried: dict[str, str]) -> list[str]:
    """Libraries whose lower bound is not the version of the constraints file."""
    return [
        f"{name}: {bound} is admitted, {tried.get(name, 'nothing')} is tried"
        for name, bound in admitted.items()
        if bound is None or name not in tried or Version(tried[name]) != bound
    ]


def test_the_lowest_versions_are_those_that_are_admitted() -> None:
    not_tried = {"tensorboard", "mlflow-skinny", "wandb"}  # services that are not there in tests
    admitted = {name: bound for name, bound in bounds().items() if name not in not_tried}
    assert {"torch", "numpy", "blosc2", "distributed", "onnx"} <= set(admitted)
    assert not not_in_step(admitted, pinned(MINIMUM))


def test_the_guard_sees_a_bound_that_was_moved() -> None:
    admitted = {"numpy": Version("1.26"), "torch": Version("2.4"), "new": Version("1"), "open": None}
    wrong = not_in_step(admitted, {"numpy": "1.26.0", "torch": "2.4.1", "open": "1"})
    assert [line.split(":")[0] for line in wrong] == ["torch", "new", "open"]


def test_tested_versions_are_admitted() -> None:
    tested = pinned(TESTED)
    extras = optional()
    docs = extras["docs"] if sys.version_info >= (3, 11) else []
    for each in [*declared(), *extras["dask"], *extras["onnx"], *extras["test"], *docs]:
        assert each.specifier.contains(tested[canonicalize_name(each.name)]), each


def imported_of_others(package: str) -> set[str]:
    """Top-level modules that a package imports, ours and the standard library's left out."""
    names = {
        name.split(".")[0]
        for path in (ROOT / package).rglob("*.py")
        for name in imported_names(path.read_text(encoding="utf-8"), package)
    }
    return names - set(sys.stdlib_module_names) - set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_what_is_imported_is_declared(package: str) -> None:
    named = {canonicalize_name(each.name) for each in (*declared(), *(one for found in optional().values() for one in found))}
    assert {canonicalize_name(OTHER_NAMES.get(module, module)) for module in imported_of_others(package)} <= named


def test_each_has_its_reason() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    reasons = {canonicalize_name(name) for name in re.findall(r"^\| ([\w-]+) \|", page, re.MULTILINE)}
    assert {canonicalize_name(each.name) for each in declared()} <= reasons
    assert reasons - {"library"} <= {canonicalize_name(each.name) for each in declared()}, "nothing that has gone"


@pytest.fixture
def found() -> dict[str, Library]:
    """What is installed, if it is what the tables were made of."""
    libraries, tested = licences.installed(), pinned(TESTED)
    other = [name for name, each in libraries.items() if tested.get(name) not in (None, each.installed.version.split("+")[0])]
    if other:
        pytest.skip(f"other versions than the tested ones are installed: {', '.join(other)}")
    return libraries


def test_every_licence_is_allowed_and_listed(found: dict[str, Library]) -> None:
    assert {"torch", "numpy", "sympy", "distributed", "dask", "onnx"} <= set(found), "what comes with others is looked at too"
    assert not licences.not_allowed(found)
    listed = licences.listed(licences.PAGE.read_text(encoding="utf-8"))
    assert {name for name in found if not licences.OF_GPU_BUILDS.match(name)} <= listed, (
        "run `python -m benchmarks.pages.licences`"
    )
    assert {canonicalize_name(each.name) for each in declared()} <= listed


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the tables are made on Python 3.11")
def test_the_tables_are_those_of_what_is_installed(found: dict[str, Library]) -> None:
    page = licences.PAGE.read_text(encoding="utf-8")
    assert licences.filled(page) == page, "run `python -m benchmarks.pages.licences`"


@pytest.mark.parametrize(
    ("told", "licence"),
    [
        ({"License_Expression": ["Apache-2.0 OR BSD-2-Clause"], "License": ["MIT"]}, "Apache-2.0 OR BSD-2-Clause"),
        ({"License": ["BSD 3-Clause License\n\nCopyright"]}, "BSD-3-Clause"),
        ({"License": ["    Apache License\n  Version 2.0"]}, "Apache-2.0"),
        ({"License": ["see LICENSE"], "Classifier": ["License :: OSI Approved :: MIT License"]}, "MIT"),
        ({"Classifier": ["License :: OSI Approved", "License :: OSI Approved :: BSD License"]}, "BSD"),
        ({"Classifier": ["License :: OSI Approved :: GNU General Public License v3 (GPLv3)"]}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_licences_are_read_from_metadata(told: dict[str, list[str]], licence: str) -> None:
    assert licences.licence_of(library(**told)) == licence


@pytest.mark.parametrize("licence", ["GPL-3.0-only", "MIT AND GPL-2.0-only", "LicenseRef-Proprietary", "MIT OR AGPL-3.0"])
def test_the_guard_sees_a_licence_that_is_not_allowed(licence: str) -> None:
    assert licences.not_allowed({"new": library(License_Expression=[licence])}) == {"new": licence}
    assert not licences.not_allowed({"new": library(License_Expression=["(MIT OR Apache-2.0) AND LGPL-3.0-or-later"])})


def test_the_guard_sees_a_library_that_is_not_listed() -> None:
    table = "| library | licence | by |\n|---|---|---|\n| a_b | MIT | c |\n"
    assert licences.listed(f"<!-- licences: runtime -->\n{table}<!-- end of licences -->\nd | x | y") == {"a-b"}


def test_what_libraries_bring_is_found() -> None:
    found = with_all_they_bring([Requirement("pandas")])
    assert {"pandas", "numpy", "python-dateutil"} <= set(found)
    assert found["numpy"].bringers >= {"pandas"} and found["pandas"].bringers == {""}
    assert with_all_they_bring([Requirement("no-such-library-at-all")]) == {}
