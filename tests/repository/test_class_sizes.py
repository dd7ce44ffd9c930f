"""No class offers more than a reader can hold in mind."""

import ast

import pytest

from tests.repository.test_imports import PACKAGES, ROOT

MOST = 10  # public methods, properties and attributes of a class's own

# Fields of a record are the columns of a table or the keys of a file, each described where it stands; they do not count, methods do.
# Records are the models of `configs.files.Value`, which hold plain values alone, and these dataclasses of plain values.
PLAIN_DATACLASSES = {"EpochRecord", "Wimmer2023Settings"}
OF_MODULES = {"forward", "extra_repr"}  # every torch.nn.Module has them


def public_members(definition: ast.ClassDef) -> set[str]:
    """Names that a class itself defines for others: methods and properties, class attributes, what its methods set on self."""
    names: set[str] = set()
    is_record = definition.name in PLAIN_DATACLASSES or "Value" in {ast.unparse(base) for base in definition.bases}
    for node in definition.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            names |= {node.name, *_set_on_self(node)}
        elif isinstance(node, ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign) and not is_record:
            names.add(ast.unparse(node.target))
        elif isinstance(node, ast.Assign):
            names |= {ast.unparse(target) for target in node.targets}
    return {name for name in names if not name.startswith("_")} - OF_MODULES


def _set_on_self(method: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Attributes that a method assigns, also among several, with a type or in a loop, and buffers that it registers."""
    names = set()
    for node in ast.walk(method):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            names.add(node.attr)
        if (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) == "self.register_buffer"
            and isinstance(node.args[0], ast.Constant)
        ):
            names.add(str(node.args[0].value))
    return names


def too_large(source: str) -> dict[str, set[str]]:
    """Classes of a module with too many public members."""
    classes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]
    members = {one.name: public_members(one) for one in classes}
    return {name: names for name, names in members.items() if len(names) > MOST}


@pytest.mark.parametrize("package", PACKAGES)
def test_classes_have_at_most_ten_public_members(package: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}: {name} has {len(names)}: {', '.join(sorted(names))}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for name, names in too_large(path.read_text(encoding="utf-8")).items()
    ]
    assert not found, "\n".join(found)


def test_exceptions_are_dataclasses_that_exist() -> None:
    found = {
        node.name
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and any("dataclass" in ast.unparse(one) for one in node.decorator_list)
    }
    assert found >= PLAIN_DATACLASSES


METHODS = "\n".join(f"    def do_{number}(self): ..." for number in range(11))
FIELDS = "\n".join(f"    field_{number}: int = 0" for number in range(11))
SET = f"    def __init__(self):\n        {', '.join(f'self.part_{number}' for number in range(8))} = range(8)"
SOME = "\n".join(f"    @property\n    def some_{number}(self): ..." for number in range(3))


@pytest.mark.parametrize(
    "source",
    [
        f"class Large:\n{METHODS}",
        f"class Large(Value):\n{METHODS}",
        f"@dataclass(frozen=True)\nclass Large:\n{FIELDS}",
        f"class Large:\n{SET}\n{SOME}",
        f"def function():\n    class Large:\n{METHODS.replace('    def', '        def')}",
    ],
)
def test_the_guard_sees_a_large_class(source: str) -> None:
    assert list(too_large(source)) == ["Large"]


@pytest.mark.parametrize(
    "source",
    [
        f"class Settings(Value):\n{FIELDS}",
        f"class Private:\n{METHODS.replace('do_', '_do_')}",
        f"class Parts:\n{SET}\n    @property\n    def some(self): ...",
        f"class Layer(nn.Module):\n{SET}\n    def forward(self, x): ...\n    def extra_repr(self): ...\n    def one(self): ...",
    ],
)
def test_the_guard_lets_a_small_class_pass(source: str) -> None:
    assert not too_large(source)
