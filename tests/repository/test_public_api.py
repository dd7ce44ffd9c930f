"""Every package offers its public names by itself, and pages import them from there."""

import ast
import re
import textwrap
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from tests.repository.test_imports import PACKAGES, ROOT

PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.py"))
FENCED = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^    .*\n|^\s*\n)+", re.MULTILINE)
IMPORT = re.compile(rf"(?:from (?:{'|'.join(PACKAGES)})\b|import (?:{'|'.join(PACKAGES)})\b).*")
NAMED = re.compile(rf"`((?:{'|'.join(PACKAGES)})(?:\.\w+)+)(?:\([^`]*\))?`")


def import_lines(page: str) -> Iterator[str]:
    """Lines of a page's code that import from our packages."""
    for block in [*FENCED.findall(page), *map(textwrap.dedent, INDENTED.findall(page))]:
        yield from (line.strip().split("  #")[0] for line in block.splitlines() if IMPORT.fullmatch(line.strip()))


def wrong_imports(line: str) -> list[str]:
    """Names in a line of imports that are not public names of a package."""
    statement = ast.parse(line).body[0]
    if isinstance(statement, ast.Import):
        return [alias.name for alias in statement.names if alias.name not in PACKAGES]
    assert isinstance(statement, ast.ImportFrom) and statement.module
    public = import_module(statement.module).__all__ if statement.module in PACKAGES else ()
    return [f"{statement.module}.{alias.name}" for alias in statement.names if alias.name not in public]


def is_known(name: str) -> bool:
    """Whether a dotted name in a sentence is a public name, possibly with an attribute, or a module."""
    package, first, *attributes = name.split(".")
    if first in import_module(package).__all__:
        found = getattr(import_module(package), first)
        return all(hasattr(found, attribute) for attribute in attributes)
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_can_be_imported(package: str) -> None:
    module = import_module(package)
    assert len(set(module.__all__)) == len(module.__all__) > 0
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    assert [name for name in module.__all__ if not getattr(module, name).__doc__] == []
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        module.nonsense  # noqa: B018


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_see_the_names_that_are_public(package: str) -> None:
    tree = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert imported - {"TYPE_CHECKING", "import_on_use"} == set(import_module(package).__all__)


@pytest.mark.parametrize("path", [*PAGES, *EXAMPLES], ids=lambda path: path.name)
def test_pages_import_public_names(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lines = import_lines(text) if path.suffix == ".md" else filter(IMPORT.fullmatch, text.splitlines())
    assert [name for line in lines for name in wrong_imports(line)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_what_exists(page: Path) -> None:
    assert [name for name in NAMED.findall(page.read_text(encoding="utf-8")) if not is_known(name)] == []


@pytest.mark.parametrize(
    "text",
    [
        "    from inference.predictor import Predictor\n",
        "```python\nfrom inference import Predictor, Nonsense\n```\n",
        "Some words\n\n    x = 1\n    import inference.predictor\n",
        "- a list\n\n```python\n    from trainers.loop import Trainer  # a comment\n```\n",
    ],
)
def test_the_guard_sees_a_wrong_import(text: str) -> None:
    assert [name for line in import_lines(text) for name in wrong_imports(line)]


def test_the_guard_lets_public_names_pass() -> None:
    text = "from inference.nowhere import prose\n\n    from inference import PredictionOptions, Predictor\n    from torch import nn\n"
    assert list(import_lines(text)) == ["from inference import PredictionOptions, Predictor"]
    assert not wrong_imports("from inference import PredictionOptions, Predictor")


def test_the_guard_sees_a_name_that_does_not_exist() -> None:
    assert is_known("inference.Predictor.load") and is_known("se_unet.layers") and is_known("se_unet.cost")
    assert not is_known("inference.Predictor.nonsense") and not is_known("trainers.loop.Trainer")
