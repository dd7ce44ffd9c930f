"""se_predict and se_evaluate as a user runs them, in this process."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from inference.evaluation.cli import main as evaluate_main
from inference.prediction.cli import main as predict_main
from inference.prediction.record import PredictionRecord
from tests.inference.models import LABELS, write_model
from tests.preprocessing.clusters import local_cluster

Run = Callable[..., int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    def call(main: Callable[[], int], *arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", [main.__name__, *map(str, arguments)])
        return main()

    return call


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(3):
        values = np.random.default_rng(seed).random((10, 12, 14), np.float32)
        nib.save(nib.Nifti1Image(values, np.diag([1, 1, 1, 1.0])), folder / f"case{seed}_0000.nii.gz")
    return folder


def test_predict_then_evaluate(run: Run, tmp_path: Path, model: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run(predict_main, "-i", images, "-o", out, "-m", model, "--fast", "--device", "cpu") == 0
    assert sorted(path.name for path in out.iterdir()) == [
        *(f"case{seed}.nii.gz" for seed in range(3)),
        "logs",
        "prediction.json",
    ]
    record = PredictionRecord.read(out / "prediction.json")
    used = record.models[0]
    assert (used.folds, used.scales, used.scale_weights, used.mirror_axes) == (("0", "1"), (1.0,), (1.0,), ())
    assert (used.model, record.step, record.average) == (str(model), 0.75, "probabilities")
    assert record.dataset == LABELS
    assert run(evaluate_main, out, out, "--surface", "--tolerance", 2) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["mean_foreground_dice"] == 1 and (out / "metrics.csv").is_file()
    assert "Mean foreground Dice 1.000, 3 cases" in capsys.readouterr().out


def test_work_is_continued_and_divided(run: Run, tmp_path: Path, model: Path, images: Path) -> None:
    out = tmp_path / "out"
    common = ("-i", images, "-o", out, "-m", model, "--fast", "--device", "cpu", "--quiet")
    assert run(predict_main, *common, "--part-id", 1, "--num-parts", 2) == 0
    assert [path.name for path in out.glob("*.nii.gz")] == ["case1.nii.gz"]
    before = (out / "case1.nii.gz").stat().st_mtime_ns
    assert run(predict_main, *common, "--continue") == 0
    assert len(list(out.glob("*.nii.gz"))) == 3
    assert (out / "case1.nii.gz").stat().st_mtime_ns == before
    assert run(predict_main, *common, "--continue") == 0


def test_a_table_that_is_missing_is_made_when_work_is_continued(run: Run, tmp_path: Path, model: Path, images: Path) -> None:
    """As after a kill, or on a disk that was full, behind the last case."""
    out = tmp_path / "out"
    common = ("-i", images, "-o", out, "-m", model, "--fast", "--device", "cpu", "--quiet", "--statistics")
    assert run(predict_main, *common) == 0
    table = (out / "statistics.csv").read_bytes()
    (out / "statistics.csv").unlink()
    assert run(predict_main, *common, "--continue") == 0
    assert (out / "statistics.csv").read_bytes() == table


def test_one_file_to_one_file(run: Run, tmp_path: Path, model: Path, images: Path) -> None:
    target = tmp_path / "new" / "mine.nii.gz"
    options = ("--folds", 1, "--search", "never", "--no-mirror", "--step-size", 1, "--preview", "--save-probabilities")
    assert run(predict_main, "-i", images / "case0_0000.nii.gz", "-o", target, "-m", model, *options) == 0
    names = sorted(path.name for path in target.parent.iterdir())
    assert names == ["logs", "mine.nii.gz", "mine_preview.html", "mine_preview.png", "mine_probabilities.npz", "prediction.json"]


def test_one_bad_case_among_good_ones(
    run: Run, tmp_path: Path, model: Path, images: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (images / "case1_0000.nii.gz").write_bytes(b"junk")
    out = tmp_path / "out"
    assert run(predict_main, "-i", images, "-o", out, "-m", model, "--fast", "--device", "cpu") == 1
    assert sorted(path.name for path in out.glob("*.nii.gz")) == ["case0.nii.gz", "case2.nii.gz"]
    assert "case `case1` failed" in caplog.text and "case1_0000.nii.gz: the file cannot be read" in caplog.text
    (images / "case0_0000.nii.gz").write_bytes(b"junk")
    (images / "case2_0000.nii.gz").unlink()
    assert run(predict_main, "-i", images, "-o", out, "-m", model, "--fast", "--device", "cpu") == 2
    assert "2 faults in the input" in capsys.readouterr().err


def test_all_faults_of_the_command_line_at_once(
    run: Run, tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = ("--folds", 7, "--device", "cuda:99", "--scales", "0", "--part-id", 3)
    assert run(predict_main, "-i", tmp_path / "nothing", "-o", tmp_path / "out", "-m", model, *wrong) == 2
    printed = capsys.readouterr().err
    assert "5 faults in the input" in printed
    for part in ("fold_7", "cuda:99", "scales must be", "nothing: no such file or folder", "part 3 of 1"):
        assert part in printed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--scales", 0.8, "--search", "always"), "either the size is searched or scales are given"),
        (("--step-size", 2), "the step must be"),
        (("--folds", 9), "fold_9"),
    ],
)
def test_wrong_options(run: Run, tmp_path: Path, model: Path, images: Path, capsys, arguments, message: str) -> None:  # type: ignore[no-untyped-def]
    assert run(predict_main, "-i", images, "-o", tmp_path / "out", "-m", model, *arguments) == 2
    assert message in capsys.readouterr().err


def test_an_empty_folder_and_a_missing_channel(run: Run, tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert run(predict_main, "-i", tmp_path / "empty", "-o", tmp_path / "out", "-m", model) == 2
    assert "no image found" in capsys.readouterr().err


def test_wrong_folders_to_evaluate(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(evaluate_main, tmp_path / "a", tmp_path / "b") == 2
    assert "3 faults in the input" in capsys.readouterr().err
    assert run(evaluate_main, tmp_path, tmp_path, "--tolerance", -1, "--jobs", 0, "--labels", tmp_path / "no.json") == 2
    assert "3 faults in the input" in capsys.readouterr().err


def test_everything_that_can_be_written(run: Run, tmp_path: Path, model: Path, images: Path) -> None:
    out = tmp_path / "out"
    options = ("--save-uncertainty", "--save-probabilities", "--statistics", "--features", "--preview", "--roi", "bright")
    assert run(predict_main, "-i", images, "-o", out, "-m", model, model, "--device", "cpu", *options) == 0
    kinds = ("", "_entropy", "_disagreement")
    expected = [f"case{seed}{kind}.nii.gz" for seed in range(3) for kind in kinds]
    written = ("statistics.csv", "features.csv", "preview.png", "preview.html", "probabilities.npz")
    expected += [f"case{seed}_{kind}" for seed in range(3) for kind in written]
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [*expected, "features.csv", "logs", "prediction.json", "statistics.csv"]
    )
    assert set(np.unique(np.asanyarray(nib.load(out / "case0.nii.gz").dataobj))) <= {0, 7}
    assert np.load(out / "case0_probabilities.npz")["names"].tolist() == ["bright"]
    record = PredictionRecord.read(out / "prediction.json")
    assert record.roi == ("bright",) and len(record.models) == 2 and record.models[0].scale_weights == (1.0,)
    assert (out / "statistics.csv").read_text().count("\n") == 1 + 3


def test_a_list_of_cases(run: Run, tmp_path: Path, model: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = tmp_path / "cases.json"
    listed.write_text(json.dumps({"mine": [str(images / "case1_0000.nii.gz")], "other": ["images/case2_0000.nii.gz"]}))
    common = ("-m", model, "--fast", "--device", "cpu", "--quiet")
    assert run(predict_main, "-i", listed, "-o", tmp_path / "a", *common) == 0
    assert sorted(path.name for path in (tmp_path / "a").glob("*.nii.gz")) == ["mine.nii.gz", "other.nii.gz"]
    text = tmp_path / "cases.txt"
    text.write_text("# comment\nimages/case0_0000.nii.gz\n\nimages/case2_0000.nii.gz\n")
    assert run(predict_main, "-i", text, "-o", tmp_path / "b", *common) == 0
    assert sorted(path.name for path in (tmp_path / "b").glob("*.nii.gz")) == ["case0.nii.gz", "case2.nii.gz"]
    text.write_text("images/no.nii.gz\nimages/case0_0000.nii.gz, images/case1_0000.nii.gz, images/case2_0000.nii.gz\n")
    assert run(predict_main, "-i", text, "-o", tmp_path / "c", *common) == 2
    printed = capsys.readouterr().err
    assert "no.nii.gz" in printed and "lists 3 files for 1 channels" in printed


def test_time_and_memory_are_told_before(
    run: Run, tmp_path: Path, model: Path, images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run(predict_main, "-i", images, "-o", tmp_path / "out", "-m", model, "--search", "never", "--device", "cpu") == 0
    # two folds, two reflections; 10 x 12 x 14 voxels fit one patch of 16
    assert "for 12 tiles and" in caplog.text and "GiB available" in caplog.text


def test_labels_that_the_model_does_not_give(
    run: Run, tmp_path: Path, model: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = ("--roi", "bright", "liver", "spleen")
    assert run(predict_main, "-i", images, "-o", tmp_path / "out", "-m", model, "--device", "cpu", *wrong) == 2
    printed = capsys.readouterr().err
    assert "label `liver`: the model does not predict this label. Choose among grey, bright" in printed and "spleen" in printed


def test_the_record_says_how_the_size_was_chosen(run: Run, tmp_path: Path, model: Path, images: Path) -> None:
    common = ("-i", images, "-m", model, "--device", "cpu", "--quiet")
    found = {}
    for name, options in {
        "auto": (),
        "always": ("--search", "always"),
        "given": ("--scales", 0.8, 1, "--scale-weights", 1, 3),
        "fast": ("--fast",),
    }.items():
        assert run(predict_main, *common, "-o", tmp_path / name, *options) == 0
        record = PredictionRecord.read(tmp_path / name / "prediction.json").models[0]
        found[name] = (record.search, record.scales, record.scale_weights)
    plain = (False, (1.0,), (1.0,))
    assert found == {"auto": plain, "always": (True, *plain[1:]), "given": (False, (0.8, 1.0), (0.25, 0.75)), "fast": plain}


def test_words_of_an_earlier_version_are_explained(
    run: Run, tmp_path: Path, model: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(predict_main, "-i", images, "-m", model, "-o", tmp_path / "out", "--scales", "none")
    assert "`none` is now --search never" in capsys.readouterr().err


def test_weights_of_scales_of_an_earlier_version_are_told(
    run: Run, tmp_path: Path, model: Path, images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (model / "scales.json").write_text("{}")
    assert run(predict_main, "-i", images, "-m", model, "--device", "cpu", "-o", tmp_path / "out") == 0
    assert "scales.json is of an earlier version and not used" in caplog.text


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the cluster's own making
def test_a_cluster_does_the_same(run: Run, tmp_path: Path, model: Path, images: Path, caplog: pytest.LogCaptureFixture) -> None:
    (images / "case1_0000.nii.gz").write_bytes(b"junk")
    common = ("-i", images, "-m", model, "--fast", "--device", "cpu", "--quiet")
    with local_cluster(1) as scheduler:
        assert run(predict_main, *common, "-o", tmp_path / "there", "--scheduler", scheduler) == 1
    assert "case `case1` failed" in caplog.text and "case1_0000.nii.gz: the file cannot be read" in caplog.text
    assert run(predict_main, *common, "-o", tmp_path / "here") == 1
    for case in ("case0", "case2"):
        one, other = (np.asanyarray(nib.load(tmp_path / name / f"{case}.nii.gz").dataobj) for name in ("here", "there"))
        np.testing.assert_array_equal(one, other)
    assert not (tmp_path / "there/case1.nii.gz").exists()


def test_a_scheduler_that_is_not_there(
    run: Run, tmp_path: Path, model: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("distributed")
    words = ("-i", images, "-o", tmp_path / "out", "-m", model, "--device", "cpu", "--scheduler", "tcp://127.0.0.1:1")
    assert run(predict_main, *words) == 2
    assert "the Dask scheduler cannot be reached" in capsys.readouterr().err


def test_a_case_of_absurd_size_is_counted_and_named(
    run: Run, tmp_path: Path, model: Path, images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither its voxels nor its tiles are listed: the header says 700 mm a voxel, and the model works at 1 mm."""
    values = np.random.default_rng(0).random((24, 24, 24), np.float32)
    nib.save(nib.Nifti1Image(values, np.diag([700.0, 700, 700, 1])), images / "absurd_0000.nii.gz")
    out = tmp_path / "out"
    assert run(predict_main, "-i", images, "-o", out, "-m", model, "--fast", "--device", "cpu") == 1
    refusal = "case `absurd` failed: case `absurd`: at the planned spacing 1 x 1 x 1 mm it has 16800 x 16800 x 16800 voxels"
    assert refusal in caplog.text
    assert sorted(path.name for path in out.glob("*.nii.gz")) == [f"case{seed}.nii.gz" for seed in range(3)]
