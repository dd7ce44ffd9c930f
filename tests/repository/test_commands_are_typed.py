"""Each command becomes a frozen value at once: only the functions that read a command line see an `argparse.Namespace`."""

import ast
import dataclasses
import inspect
import re
from importlib import import_module

import pytest

from configs.cli import add_verbosity
from tests.repository.test_docs import PARSERS
from tests.repository.test_imports import PACKAGES, ROOT

READERS = "_read"  # functions of a `cli.py` that begin so make the typed command
SHARED = {
    ("configs/cli.py", "run"),
    ("configs/cli.py", "fill"),
}  # what parses the command line, and what the readers fill values with


def untyped_commands(source: str, path: str) -> list[str]:
    """Where a module names `argparse.Namespace` outside of the functions that read a command line, or parses one itself."""
    tree = ast.parse(source)
    allowed = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and ((path.endswith("/cli.py") and node.name.startswith(READERS)) or (path, node.name) in SHARED)
    ]
    inside = {id(child) for node in allowed for child in ast.walk(node)}
    return [f"{path}:{node.lineno}" for node in ast.walk(tree) if _is_untyped(node) and id(node) not in inside]


def _is_untyped(node: ast.AST) -> bool:
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else None
    imported = isinstance(node, ast.alias) and node.name == "Namespace"
    quoted = isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.endswith("Namespace")
    return name in ("Namespace", "parse_args", "parse_known_args") or imported or quoted


@pytest.mark.parametrize("package", PACKAGES)
def test_only_the_readers_see_a_namespace(package: str) -> None:
    found = [
        place
        for path in sorted((ROOT / package).rglob("*.py"))
        for place in untyped_commands(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix())
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("inference/prediction/cli.py", "def _predict(arguments: argparse.Namespace): ..."),
        ("inference/prediction/cli.py", "def _predict(arguments: 'argparse.Namespace'): ..."),
        ("inference/prediction/cli.py", "def _predict():\n    given: argparse.Namespace = None"),
        ("inference/prediction/cli.py", "def _predict():\n    given = _parser().parse_args()"),
        ("inference/prediction/command.py", "def _read(given: argparse.Namespace): ..."),
        ("inference/prediction/command.py", "from argparse import Namespace"),
    ],
)
def test_the_guard_sees_a_namespace(path: str, source: str) -> None:
    assert untyped_commands(source, path)


def test_the_guard_lets_a_reader_pass() -> None:
    assert not untyped_commands("def _read(given: argparse.Namespace) -> Command: ...", "inference/prediction/cli.py")


LINES = {
    "PlanCommand": "se_plan_and_preprocess images --spacing 1 2 3 --network se --jobs 2",
    "RunCommand": "se_run images --hours 2 --networks se --folds 0 all --set momentum=0.8",
    "TrainCommand": "se_train Balls --network se --fold 3 --lr 0.1 --set momentum=0.8 --resume",
    "PredictCommand": "se_predict -i images -o labels -m model --scales 0.8 1 --roi organ --part-id 1 --num-parts 2",
    "EvaluateCommand": "se_evaluate labels references --surface --tolerance 2",
    "RobustnessCommand": "se_evaluate -m model --ensemble 0.8 1 --search --folds 0 1",
    "CalibrateCommand": "se_evaluate -m model --calibrate",
    "SelectCommand": "se_select work --ensembles --folds 0 1",
    "ReportCommand": "se_report model --no-equivariance",
    "DicomList": "se_dicom list images",
    "DicomConvert": "se_dicom convert images -o converted",
    "DicomDataset": "se_dicom dataset images -o data --labels labels --names liver=1 spleen=2",
    "BundleExport": "se_bundle export model --folds 0 1",
    "BundleImport": "se_bundle import model.zip",
    "BundleOnnx": "se_bundle onnx model -o model.onnx",
}


@pytest.mark.parametrize("name", LINES)
def test_a_command_is_a_frozen_value(name: str) -> None:
    program, *words = LINES[name].split()
    module = import_module(PARSERS[program].split(":")[0])
    parser = module._parser()
    add_verbosity(parser)
    command, again = (module._read(parser.parse_args(words)) for _ in range(2))
    assert type(command).__name__ == name and command == again
    for field in dataclasses.fields(command):
        assert re.search(rf"    {field.name}: .*  # \S", inspect.getsource(type(command))), "each field is documented"
        assert not isinstance(getattr(command, field.name), list), "what is frozen holds nothing that changes"
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(command, field.name, None)


def test_every_command_is_tried() -> None:
    assert {line.split()[0] for line in LINES.values()} == set(PARSERS)
