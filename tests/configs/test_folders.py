"""Names of files and folders stand in one module alone."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.folders import DatasetFolder, ModelFolder, parse_weights_name, weights_in_model
from tests.repository.test_imports import PACKAGES, ROOT

NAMES = re.compile(
    r"\bplan\.json|\bsplits?\.json|\bfold_|\bweights_(final|best|\*|$)|\bmetrics\.json|\btraining\.json|\bscales\.json"
)

FOLDERS = {"preprocessed", "models", "validation"}  # words of the language, too: they count as parts of a path


def file_names(source: str) -> list[str]:
    """Strings of a module, its docstrings aside, that spell the name of a file or folder of ours."""
    tree = ast.parse(source)
    return [*_names_of_files(tree), *_names_of_folders(tree)]


def _names_of_files(tree: ast.Module) -> Iterator[str]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, documented)]
    docstrings = {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
    strings = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return (node.value for node in strings if id(node) not in docstrings and NAMES.search(node.value))


def _names_of_folders(tree: ast.Module) -> Iterator[str]:
    """Folders in `path / "models" / name` or `path.joinpath("models")`."""
    for node in ast.walk(tree):
        parts: list[ast.expr] = []
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            parts = [node.right]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            parts = node.args if called in ("Path", "joinpath", "glob", "rglob") else []
        for part in parts:
            if isinstance(part, ast.Constant) and isinstance(part.value, str) and FOLDERS & set(part.value.split("/")):
                yield part.value


NNUNET = ROOT / "inference" / "bundle" / "nnunet"  # spells the names of nnU-Net's files


@pytest.mark.parametrize("package", PACKAGES)
def test_only_one_module_spells_the_names(package: str) -> None:
    files = [
        path
        for path in sorted((ROOT / package).rglob("*.py"))
        if path != ROOT / "configs" / "folders.py" and path.parent != NNUNET
    ]
    found = {str(path.relative_to(ROOT)): names for path in files if (names := file_names(path.read_text(encoding="utf-8")))}
    assert not found


@pytest.mark.parametrize(
    "source",
    [
        'path = folder / "plan.json"',
        'path = f"fold_{fold}"',
        'f"no fold_* in it holds {file}"',
        'x = "weights_final.safetensors"',
        'path = dataset / "preprocessed"',
        'path = dataset / "models" / name',
        'path = fold.joinpath("validation")',
        'found = work.glob("*/models")',
    ],
)
def test_the_guard_sees_a_name(source: str) -> None:
    assert file_names(source)


@pytest.mark.parametrize(
    "source",
    ['"""Reads plan.json."""', 'name = "scale_weights"', "plan_json = 1", 'part = data["validation"]', 'where = "models"'],
)
def test_the_guard_lets_other_words_pass(source: str) -> None:
    assert not file_names(source)


def test_folds_come_in_order_and_know_their_model(tmp_path: Path) -> None:
    model = DatasetFolder(tmp_path / "Dataset001_A").model("3d_fullres", "se", "tag")
    for fold in ("all", 10, 2, 0):
        model.fold(fold).path.mkdir(parents=True)
    (model.path / "fold_file").touch()
    assert [fold.name for fold in model.folds()] == ["0", "2", "10", "all"]
    assert model.fold(2).model == model
    assert model.dataset.path == (tmp_path / "Dataset001_A").resolve()
    assert str(model.fold(2)) == "Dataset001_A/3d_fullres_se_tag/fold_2"


def test_models_of_a_dataset_have_a_plan(tmp_path: Path) -> None:
    dataset = DatasetFolder(tmp_path)
    assert dataset.models == []
    for name, has_plan in (("b", True), ("a", True), ("c", False)):
        model = ModelFolder(tmp_path / "models" / name)
        model.path.mkdir(parents=True)
        if has_plan:
            model.plan.touch()
    assert [model.path.name for model in dataset.models] == ["a", "b"]


def test_names_of_weights_can_be_parsed() -> None:
    assert parse_weights_name(weights_in_model("all", "best")) == ("all", "best")
    assert parse_weights_name("fold_0/weights_latest.safetensors") is None
    assert parse_weights_name("../fold_0/weights_final.safetensors") is None
