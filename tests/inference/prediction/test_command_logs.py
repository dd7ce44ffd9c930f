"""Commands on segmentations and on trained models keep a log where it belongs, and never in what is given away."""

import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from configs.run_log import digest
from inference.bundle.cli import main as bundle_main
from inference.evaluation.cli import main as evaluate_main
from inference.report.cli import main as report_main
from inference.report.run import find_models
from inference.selection.cli import main as select_main
from tests.inference.report.models import write_trained

Run = Callable[..., int]
MODEL = Path("work/toy/models/3d_fullres_baseline")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trained")
    write_trained(root)
    return root


@pytest.fixture
def root(trained: Path, tmp_path: Path) -> Path:
    """A copy for each test; prepared cases still lead to the first one's images."""
    return Path(shutil.copytree(trained, tmp_path / "root"))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    def call(main: Callable[[], int], name: str, *words: object) -> int:
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        return main()

    return call


def logged(root: Path) -> dict[str, str]:
    """Folder below the root -> the one log that lies there."""
    found = {path.parent.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in root.rglob("*.log")}
    assert len(found) == len(list(root.rglob("*.log")))
    return found


def test_an_evaluation_keeps_it_beside_its_table(root: Path, run: Run) -> None:
    predictions, references = root / MODEL / "fold_0/validation", root / "toy/labelsTr"
    assert run(evaluate_main, "se_evaluate", predictions, references, "-o", root / "scores/metrics.json", "--quiet") == 0
    ((folder, text),) = logged(root).items()
    assert folder == "scores/logs" and text.startswith(f"command: se_evaluate {predictions}")
    assert "written to" in text and text.splitlines()[-1].startswith("ended with 0")
    assert run(evaluate_main, "se_evaluate", predictions, references, "--quiet") == 0
    assert set(logged(root)) == {"scores/logs", f"{MODEL}/fold_0/validation/logs"}
    words = (predictions, predictions, "--labels", root / "toy/dataset.json", "-o", root / "again/metrics.json", "--quiet")
    assert run(evaluate_main, "se_evaluate", *words) == 0, "the folder is no case to the next evaluation"


def test_the_scores_do_not_know_of_it(root: Path, run: Run) -> None:
    words = (root / MODEL / "fold_0/validation", root / "toy/labelsTr", "--quiet", "-o")
    for name in ("a", "b"):
        assert run(evaluate_main, "se_evaluate", *words, root / name / "metrics.json") == 0
    one, other = ({path.name: digest(path) for path in (root / name).glob("*.*")} for name in ("a", "b"))
    assert one == other and set(one) == {"metrics.json", "metrics.csv"}


def test_a_refused_evaluation_leaves_nothing(root: Path, run: Run) -> None:
    assert run(evaluate_main, "se_evaluate", root / "toy", root / "toy/labelsTr", "--tolerance", -1) == 2
    assert run(evaluate_main, "se_evaluate", "-m", root / "toy", "--quiet") == 2
    assert run(report_main, "se_report", root / "toy", "--quiet") == 2
    assert run(select_main, "se_select", root / "toy", "--quiet") == 2
    assert run(bundle_main, "se_bundle", "export", root / "toy", "-o", root / "x.zip", "--quiet") == 2
    assert logged(root) == {}


def test_a_model_at_several_sizes_keeps_it_in_the_model(root: Path, run: Run) -> None:
    words = ("--device", "cpu", "--no-mirror", "--quiet", "--scales", 1, "--cases", 1)
    assert run(evaluate_main, "se_evaluate", "-m", root / MODEL, *words, "-o", root / "elsewhere.json") == 0
    assert f"SHA-256 {digest(root / MODEL / 'plan.json')}" in logged(root)[f"{MODEL}/logs"] and len(logged(root)) == 1


def test_a_choice_keeps_it_in_the_dataset(root: Path, run: Run) -> None:
    assert run(select_main, "se_select", root / "work", "-o", root / "selection.json", "--no-postprocessing", "--quiet") == 0
    text = logged(root)["work/toy/logs"]
    assert f"SHA-256 {digest(root / MODEL / 'plan.json')}" in text and "se_predict -i INPUT" in text and len(logged(root)) == 1


def test_a_report_keeps_it_where_the_models_are(root: Path, run: Run) -> None:
    page = root / "shown/page.html"
    assert run(report_main, "se_report", root / MODEL, "-o", page, "--no-equivariance", "--quiet") == 0
    assert set(logged(root)) == {f"{MODEL}/logs"} and [path.name for path in page.parent.iterdir()] == ["page.html"]
    before = find_models(root / "work")
    assert run(report_main, "se_report", root / "work", "--no-equivariance", "--quiet") == 0
    assert set(logged(root)) == {f"{MODEL}/logs", "work/logs"} and find_models(root / "work") == before


def test_a_bundle_has_none_and_is_the_same(root: Path, run: Run) -> None:
    for name in ("first.zip", "second.zip"):
        assert run(bundle_main, "se_bundle", "export", root / MODEL, "-o", root / "shared" / name, "--quiet") == 0
        assert not any("log" in entry for entry in zipfile.ZipFile(root / "shared" / name).namelist())
    assert digest(root / "shared/first.zip") == digest(root / "shared/second.zip")
    assert {path.name for path in (root / "shared").iterdir()} == {"first.zip", "second.zip"}
    texts = [path.read_text() for path in root.rglob("*.log")]
    assert len(texts) <= 2 and all(f"SHA-256 {digest(root / 'shared/first.zip')}" in text for text in texts)


def test_an_imported_model_knows_where_it_came_from(root: Path, run: Run) -> None:
    shutil.rmtree(root / MODEL / "logs", ignore_errors=True)
    assert run(bundle_main, "se_bundle", "export", root / MODEL, "-o", root / "a.zip", "--quiet") == 0
    shutil.rmtree(root / MODEL / "logs")
    assert run(bundle_main, "se_bundle", "import", root / "a.zip", "-o", root / "new", "--quiet") == 0
    ((folder, text),) = logged(root).items()
    assert folder == "new/logs" and f"bundle: {root / 'a.zip'}, SHA-256 {digest(root / 'a.zip')}" in text
    assert run(bundle_main, "se_bundle", "export", root / "new", "-o", root / "b.zip", "--quiet") == 0
    assert digest(root / "a.zip") == digest(root / "b.zip"), "a log in the folder changes no bundle"


def test_a_refused_import_leaves_nothing(root: Path, run: Run) -> None:
    (root / "damaged.zip").write_bytes(b"none")
    (root / "there").mkdir()
    assert run(bundle_main, "se_bundle", "import", root / "damaged.zip", "-o", root / "new", "--quiet") == 2
    assert run(bundle_main, "se_bundle", "import", root / "damaged.zip", "-o", root / "there", "--quiet") == 2
    assert not (root / "new").exists() and list((root / "there").iterdir()) == []
