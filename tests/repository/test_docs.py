"""What the documentation names exists: pages, files, commands, and every option that it mentions."""

import argparse
import re
import shlex
from collections.abc import Iterator
from fractions import Fraction
from importlib import import_module
from pathlib import Path

import pytest

from configs.training import TrainingConfig, preset_names
from tests.repository.test_imports import PACKAGES, ROOT

DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md"))])
by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
PARSERS = {
    "se_plan_and_preprocess": "planners.cli:_parser",
    "se_train": "trainers.cli:_parser",
    "se_predict": "inference.prediction.cli:_parser",
    "se_evaluate": "inference.evaluation.cli:_parser",
    "se_run": "trainers.pipeline.cli:_parser",
    "se_select": "inference.selection.cli:_parser",
    "se_bundle": "inference.bundle.cli:_parser",
    "se_dicom": "preprocessing.dicom.cli:_parser",
    "se_report": "inference.report.cli:_parser",
}
COMMON = {"--help", "--verbose", "--quiet"}
FOREIGN = re.compile(r"nnUNet|torchrun|#SBATCH|\bdask\b|\bpip\b|benchmarks\.|\bgit\b|pytest|scontrol|\bchromium\b")
FILE = re.compile(rf"`((?:docs|tests|benchmarks|{'|'.join(PACKAGES)})/[\w./-]+\.(?:md|py|json|svg|csv|ipynb))`")
LINK = re.compile(r"\]\(([^)\s#]+)(?:#[^)]*)?\)")


def parser_of(command: str) -> argparse.ArgumentParser:
    """The command's own parser."""
    module, function = PARSERS[command].split(":")
    parser = getattr(import_module(module), function)()
    assert isinstance(parser, argparse.ArgumentParser)
    return parser


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """Its options, those of its actions included."""
    found = set(COMMON)
    for action in parser._actions:
        found |= set(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            found |= {option for each in action.choices.values() for option in options_of(each)}
    return found


def mentions(text: str) -> Iterator[tuple[str, str]]:
    """Each command with each option that follows it, in lines of code and between backticks; "" with options that stand alone."""
    text = re.sub(r"\\\n\s*", " ", text)  # lines that go on
    code = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    for piece in [*code, *re.findall(r"`([^`]+)`", text.replace("\n", " "))]:
        if FOREIGN.search(piece):
            continue
        command = ""
        for word in re.split(r"[\s|\[\]]+", piece.split(" #")[0]):
            command = word if word in PARSERS else command
            if re.fullmatch(r"--?[A-Za-z][\w-]*", word) and (command or word.startswith("--")):
                yield command, word


def wrong_options(text: str) -> list[str]:
    """Options that no command has, or not the one that they are shown with."""
    of = {command: options_of(parser_of(command)) for command in PARSERS}
    programs = {
        option
        for path in (ROOT / "benchmarks").rglob("*.py")
        for option in re.findall(r"\"(--[\w-]+)\"", path.read_text("utf-8"))
    }
    anywhere = programs.union(*of.values())
    return [f"{command} {option}".strip() for command, option in mentions(text) if option not in of.get(command, anywhere)]


def examples(text: str) -> list[str]:
    """Whole command lines: those without placeholders such as `[--option]`, `a|b` or `...`."""
    lines = [line.strip().split(" #")[0].rstrip(" &\\") for line in text.splitlines() if re.match(r"    se_\w+ ", line)]
    return [line for line in lines if not re.search(r"[\[\]|]|\.\.\.", line)]


def does_parse(line: str) -> bool:
    """Whether the command takes this line."""
    command, *words = shlex.split(line.replace("$SLURM_ARRAY_TASK_ID", "3"))
    parser = parser_of(command)
    from configs.cli import add_verbosity

    add_verbosity(parser)
    try:
        parser.parse_args(words)
    except SystemExit:
        return False
    return True


@by_page
def test_links_and_files_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link for link in LINK.findall(text) if not link.startswith(("http:", "https:"))]
    missing = [link for link in links if not (page.parent / link).is_file()]
    missing += [name for name in FILE.findall(text) if not (ROOT / name).is_file()]
    assert not missing


@by_page
def test_options_exist(page: Path) -> None:
    assert not wrong_options(page.read_text(encoding="utf-8"))


@by_page
def test_whole_commands_are_taken(page: Path) -> None:
    lines = examples(page.read_text(encoding="utf-8"))
    assert [line for line in lines if not does_parse(line)] == []


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.relative_to(DOCS)))
def test_links_stay_within_the_site(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if not link.startswith(("http:", "https:"))]
    assert [link for link in links if not (page.parent / link).resolve().is_relative_to(DOCS)] == []


def test_every_page_is_named_where_readers_begin() -> None:
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} - {"README.md"}
    assert set(LINK.findall((DOCS / "README.md").read_text(encoding="utf-8"))) >= pages
    assert set(re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)) >= pages


def test_folders_of_pages_are_small() -> None:
    folders = [DOCS, *(path for path in DOCS.rglob("*") if path.is_dir() and "measurements" not in path.parts)]
    assert [folder for folder in folders if len(list(folder.iterdir())) > 15] == []


def test_every_command_is_shown() -> None:
    text = (DOCS / "reference" / "commands.md").read_text(encoding="utf-8")
    assert {line.split()[0] for line in examples(text)} == set(PARSERS)


@pytest.mark.parametrize(
    "text",
    [
        "    se_train Dataset --nonsense 3",
        "`se_predict --fold 3`",
        "say `--nonsense`",
        "`se_bundle export --surface`",
        "    se_report -x",
    ],
)
def test_the_guard_sees_a_wrong_option(text: str) -> None:
    assert wrong_options(text)


def test_the_guard_sees_a_wrong_command() -> None:
    assert not does_parse("se_train Dataset --fold 3") and not does_parse("se_bundle pack model")
    assert does_parse("se_train Dataset --network se --fold 3")


def test_settings_are_those_of_the_page() -> None:
    page = (DOCS / "reference" / "settings.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", page, re.MULTILINE))
    presets = set(preset_names())
    defaults = {name: TrainingConfig().model_dump(mode="json")[name] for name in TrainingConfig.model_fields}
    numbers = {name: value for name, value in defaults.items() if isinstance(value, int | float) and not isinstance(value, bool)}
    assert set(rows) == set(defaults) | presets
    assert {name: float(Fraction(rows[name])) for name in numbers} == pytest.approx(numbers)


@pytest.mark.parametrize("package", [*PACKAGES, "benchmarks"])
def test_pages_that_the_code_names_exist(package: str) -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / package).rglob("*.py")}
    assert [
        (path.name, page)
        for path, text in texts.items()
        for page in re.findall(r"docs/[\w/]+\.md", text)
        if not (ROOT / page).is_file()
    ] == []
