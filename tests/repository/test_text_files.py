"""One reader takes every text file that a person may have written: nothing else in the product opens text."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRODUCT = ("configs", "se_unet", "preprocessing", "planners", "inference", "trainers")
READER = "configs/files.py"
OWN = {  # files that no person writes
    "preprocessing/parallel/memory.py": "reads counters of the system",
    "preprocessing/parallel/markers.py": "reads marks that worker processes of the same run wrote",
    "inference/report/page.py": "reads a script that is installed with the package",
    "inference/outputs/viewer/page.py": "reads a script that is installed with the package",
}
PARSERS = {"loads", "load", "reader", "DictReader", "read_csv", "read_table", "loadtxt", "genfromtxt"}
MODULES = {"json", "csv", "pd", "pandas", "np", "numpy", "tomllib", "yaml"}


def text_reads(source: str) -> list[str]:
    """Calls that read text: `Path.read_text`, `open` in text mode, and parsers of text."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [f"{ast.unparse(call)} in line {call.lineno}" for call in calls if _reads_text(call)]


def _reads_text(call: ast.Call) -> bool:
    name, owner = _name(call.func)
    if name == "read_text":
        return owner is not None
    if name in PARSERS and owner in MODULES:
        return not any("read_text(" in ast.unparse(argument) for argument in call.args)
    return name in ("open", "fdopen") and owner != "blosc2" and _is_text_mode(call, builtin=owner is None)


def _name(function: ast.expr) -> tuple[str, str | None]:
    """Name of the function, and what it belongs to."""
    if isinstance(function, ast.Attribute):
        return function.attr, ast.unparse(function.value)
    return ast.unparse(function), None


def _is_text_mode(call: ast.Call, builtin: bool) -> bool:
    words = [*call.args[int(builtin) :], *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    modes = [str(word.value) for word in words if isinstance(word, ast.Constant)]
    states_encoding = any(keyword.arg == "encoding" for keyword in call.keywords)
    is_default = not modes and (builtin or states_encoding or not (call.args or call.keywords))
    return is_default or any("b" not in mode and set(mode) & set("r+") for mode in modes)


FILES = [str(path.relative_to(ROOT)) for package in PRODUCT for path in sorted((ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize("file", [file for file in FILES if file not in OWN and file != READER])
def test_no_other_file_reads_text(file: str) -> None:
    assert text_reads((ROOT / file).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("file", OWN)
def test_every_exception_is_needed(file: str) -> None:
    assert text_reads((ROOT / file).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "source",
    [
        "json.loads(path.read_bytes())",
        "path.read_text(encoding='utf-8')",
        "path.open('r')",
        "path.open()",
        "open(path, 'rt', encoding='utf-8')",
        "csv.reader(lines)",
        "pd.read_csv(path)",
    ],
)
def test_what_is_looked_for_is_found(source: str) -> None:
    assert text_reads(source)


@pytest.mark.parametrize(
    "source", ["read_text(path)", "path.open('rb')", "pd.read_csv(StringIO(read_text(path)))", "read_json(path)"]
)
def test_what_is_allowed_is_not_found(source: str) -> None:
    assert not text_reads(source)
