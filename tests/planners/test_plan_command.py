import subprocess
import sys

import numpy as np
import pytest

import planners.run
from configs.errors import InputError
from configs.outputs import held
from configs.plan import Plan
from configs.progress import Silent
from planners import plan_and_preprocess
from planners.cli import main
from planners.options import PlanningOptions
from preprocessing.store import CaseStore
from tests.preprocessing.datasets import image, labels, make_dataset, save


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["se_plan_and_preprocess", *map(str, arguments)])
    return main()


def refused(monkeypatch, capsys, *arguments):
    """Standard error of a command that must end with code 2."""
    assert command(monkeypatch, *arguments, "--jobs", 1) == 2
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err and printed.out == ""
    return printed.err


def without(path):
    path.unlink()


def truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def with_value(folder):
    array = labels()
    array[0, 0, 0] = 9
    save(folder / "labelsTr/case_1.nii.gz", array)


def with_nan(folder):
    array = image(1)
    array[0, 0, 0] = np.nan
    save(folder / "imagesTr/case_1_0000.nii.gz", array)


DAMAGE = {
    "no dataset.json": (lambda folder: without(folder / "dataset.json"), "there is no `dataset.json`"),
    "missing label": (lambda folder: without(folder / "labelsTr/case_1.nii.gz"), "case_1.nii.gz does not exist"),
    "unnamed value": (with_value, "`dataset.json` does not name the label value 9 "),
    "shape": (lambda folder: save(folder / "labelsTr/case_1.nii.gz", labels((10, 12, 15))), "has the shape (15, 12, 10)"),
    "spacing": (
        lambda folder: save(folder / "labelsTr/case_1.nii.gz", labels(), np.diag([1, 3, 1.0, 1])),
        "has the spacing 1 x 3 x 1",
    ),
    "truncated": (
        lambda folder: truncated(folder / "imagesTr/case_1_0000.nii.gz"),
        "case_1_0000.nii.gz: the file cannot be read",
    ),
    "NaN": (with_nan, "1 of 1680 voxels of channel 0 are NaN"),
    "given twice": (lambda folder: save(folder / "imagesTr/case_1_0000.nii", image(1)), "the case is given twice"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_each_fault_ends_with_code_2_and_one_message(tmp_path, monkeypatch, capsys, name):
    folder = make_dataset(tmp_path / "data")
    damage, message = DAMAGE[name]
    damage(folder)
    printed = refused(monkeypatch, capsys, folder, "--work", tmp_path / "work", "--quiet")
    assert message in printed and "1 fault in the input" in printed and printed.count("\n  - ") == 1
    assert not (tmp_path / "work").exists()


def test_a_folder_that_does_not_exist(tmp_path, monkeypatch, capsys):
    assert "the dataset folder does not exist" in refused(monkeypatch, capsys, tmp_path / "none")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--configurations", "4d"], "--configurations 4d: unknown configuration"),
        (["--configurations", "3d_lowres"], "--configurations 3d_lowres: No lower resolution: a patch covers 100% of the median"),
        (["--size", "huge"], "--size huge: unknown size. Choose from small, medium, large"),
        (["--network", "vit"], "--network vit: unknown network"),
        (["--patch-size", "33", "32", "32"], "--patch-size 33 32 32"),
    ],
)
def test_wrong_options(tmp_path, monkeypatch, capsys, arguments, message):
    folder = make_dataset(tmp_path / "data")
    assert message in refused(monkeypatch, capsys, folder, "--work", tmp_path / "work", *arguments)


def test_the_real_command_lists_all_faults_at_once(tmp_path):
    folder = make_dataset(tmp_path / "data", cases=6)
    without(folder / "labelsTr/case_0.nii.gz")
    with_nan(folder)
    save(folder / "labelsTr/case_2.nii.gz", labels(), np.diag([1, 3, 1.0, 1]))
    truncated(folder / "imagesTr/case_3_0000.nii.gz")
    save(folder / "imagesTr/case_4_0000.nii", image(4))
    program = "import sys; from planners.cli import main; sys.exit(main())"
    run = [sys.executable, "-c", program, str(folder), "--work", str(tmp_path / "work"), "--jobs", "1"]
    finished = subprocess.run(run, capture_output=True, text=True, check=False)
    assert finished.returncode == 2 and finished.stdout == ""
    assert "5 faults in the input" in finished.stderr and finished.stderr.count("\n  - ") == 5
    assert "Traceback" not in finished.stderr and not (tmp_path / "work").exists()


def test_whole_command(tmp_path, monkeypatch, capsys, caplog):
    folder = make_dataset(tmp_path / "Dataset001_Toy")
    assert command(monkeypatch, folder, "--work", tmp_path / "work", "--jobs", 1) == 0
    printed = capsys.readouterr()
    assert "Patch 14 x 12 x 10" in printed.out and "Dataset001_Toy, 3d_fullres" in printed.out
    assert "3d_fullres: 3 cases preprocessed, 0 were up to date" in caplog.text
    assert "2d: 3 cases preprocessed, 0 were up to date" in caplog.text
    written = tmp_path / "work/Dataset001_Toy"
    assert {path.name for path in written.iterdir()} == {
        "dataset.json",
        "fingerprint.json",
        "fingerprint.csv",
        "logs",
        "plan.json",
        "preprocessed",
        "report.html",
    }
    first = (written / "plan.json").read_bytes()
    store = CaseStore(written / "preprocessed/3d_fullres")
    assert store.identifiers() == ["case_0", "case_1", "case_2"]
    case = store.read("case_0")
    assert case.image.shape == (1, 14, 12, 10) and set(case.class_locations) == {1, 2}
    assert case.properties.labels == str((folder / "labelsTr/case_0.nii.gz").resolve())
    assert command(monkeypatch, folder, "--work", tmp_path / "work", "--jobs", 1) == 0
    assert "0 cases preprocessed, 3 were up to date" in caplog.text
    assert (written / "plan.json").read_bytes() == first


def test_two_processes_do_not_prepare_one_dataset(tmp_path, monkeypatch):
    folder, work = make_dataset(tmp_path / "data"), tmp_path / "work"
    begin = planners.run.adopt_splits

    def begin_twice(*given):
        monkeypatch.setattr(planners.run, "adopt_splits", begin)
        plan_and_preprocess(folder, work, jobs=1)

    monkeypatch.setattr(planners.run, "adopt_splits", begin_twice)
    with pytest.raises(InputError, match="another process is working in it"):
        plan_and_preprocess(folder, work, jobs=1)
    with held(work / "data"), pytest.raises(InputError, match="another process is working in it"):
        plan_and_preprocess(folder, work, jobs=1)
    assert not (work / "data" / "plan.json").exists()


def test_plan_only_from_python(tmp_path):
    folder = make_dataset(tmp_path / "data")
    options = PlanningOptions(networks=("baseline",))
    plan = plan_and_preprocess(folder, tmp_path / "work", options, jobs=1, plan_only=True, progress=Silent())
    assert Plan.read(tmp_path / "work/data/plan.json") == plan
    assert not (tmp_path / "work/data/preprocessed").exists()
