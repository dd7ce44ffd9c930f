"""Imports between the packages point one way, heavy libraries stay out of the light packages."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("configs", "se_unet", "preprocessing", "planners", "inference", "trainers")

# Package -> what its modules may import of ours; a dotted name admits that one module.
ALLOWED = {
    "configs": (),
    "se_unet": ("configs",),
    "preprocessing": ("configs", "se_unet.separable"),
    "planners": ("configs", "se_unet", "preprocessing"),
    "inference": ("configs", "se_unet", "preprocessing"),
    "trainers": ("configs", "se_unet", "preprocessing", "inference"),
    "trainers.pipeline": (
        "configs",
        "se_unet",
        "preprocessing",
        "inference",
        "trainers",
        "planners",
    ),  # the way from data to model
}
ON_TOP = "trainers.pipeline"  # nothing but its own modules, and what the package exports, may import it
IMAGE_LIBRARIES = ("nibabel", "SimpleITK", "blosc2", "pandas")
FORBIDDEN_LIBRARIES = {"configs": ("torch", "numpy", *IMAGE_LIBRARIES), "se_unet": IMAGE_LIBRARIES}


def imported_names(source: str, module: str, is_package: bool = False) -> set[str]:
    """Dotted names that the source of `module` imports anywhere, relative ones made absolute."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{_base(node, module, is_package)}.{alias.name}" for alias in node.names}
    return names


def _base(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parents = module.split(".")[: None if is_package and node.level == 1 else -(node.level - is_package)]
    return ".".join([*parents, node.module] if node.module else parents)


def wrong_imports(source: str, module: str, is_package: bool = False) -> list[str]:
    """The imports of a module that the direction of the packages forbids."""
    package = ON_TOP if module.startswith(ON_TOP) else module.split(".")[0]
    allowed = (package, *ALLOWED[package])
    is_command = module.endswith(".cli")
    wrong = []
    for name in sorted(imported_names(source, module, is_package)):
        top = name.split(".")[0]
        of_ours = top in PACKAGES and not any(f"{name}.".startswith(f"{prefix}.") for prefix in allowed)
        command_as_library = top in PACKAGES and ".cli" in name and not is_command
        from_above = name.startswith(ON_TOP) and package != ON_TOP and module != "trainers"
        if of_ours or command_as_library or from_above or top in FORBIDDEN_LIBRARIES.get(package, ()):
            wrong.append(f"{module} imports {name}")
    return wrong


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package: str) -> None:
    wrong = []
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        module = ".".join(parts[:-1] if is_package else parts)
        wrong += wrong_imports(path.read_text(encoding="utf-8"), module, is_package)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("configs.plan", "import torch"),
        ("configs.plan", "def late():\n    from numpy import array"),
        ("se_unet.unet", "from preprocessing.geometry.affine import Geometry"),
        ("se_unet.unet", "import nibabel as nib"),
        ("preprocessing.pipeline", "import se_unet"),
        ("preprocessing.pipeline", "from se_unet import build_network"),
        ("planners.plan", "if True:\n    import trainers.loop"),
        ("inference.predictor", "from planners import plan_and_preprocess"),
        ("trainers.loop", "from planners.plan import make_plan"),
        ("trainers.loop", "from trainers.pipeline.schedule import Schedule"),
        ("trainers.loop", "from trainers.cli import main"),
        ("trainers.loop", "from .cli import main"),
        ("inference.evaluation.metrics", "from . import cli"),
    ],
)
def test_the_guard_sees_a_forbidden_import(module: str, source: str) -> None:
    assert wrong_imports(source, module)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("preprocessing.resample", "from se_unet.separable import apply_separable"),
        ("inference.predictor", "from se_unet import build_network\nimport preprocessing.pipeline"),
        ("trainers.cli", "from configs.cli import run\nfrom trainers import train"),
        ("trainers.loop", "from .patches import draw\nfrom .. import configs"),
        ("configs.cli", "import climate"),
        ("trainers.pipeline.run", "from planners.run import plan_and_preprocess\nfrom trainers.run import train"),
    ],
)
def test_the_guard_lets_an_allowed_import_pass(module: str, source: str) -> None:
    assert not wrong_imports(source, module)
