import logging
import shutil

import numpy as np
import pytest

from configs.errors import InputError
from inference.prediction.postprocessing import Postprocessing, Rule
from inference.prediction.selection import Selection
from inference.predictor import Predictor
from inference.selection import predicted
from inference.selection.candidates import find_candidates
from inference.selection.cli import main
from inference.selection.run import SelectionOptions, select
from preprocessing.formats.images import read_image, read_labels
from tests.inference.selection.work import CASES, FOLDS, add_model, make_work, reference, right, with_specks, without_slices


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return make_work(tmp_path_factory.mktemp("select")).parents[1]


@pytest.fixture
def work(prepared, tmp_path):
    """A copy for each test, its own files in place."""
    shutil.copytree(prepared, tmp_path / "copy")
    made = tmp_path / "copy/work/raw"
    for record in (made / "preprocessed/3d_fullres").glob("*.json"):
        record.write_text(record.read_text().replace(str(prepared), str(tmp_path / "copy")))
    return made


def names(selection):
    return [candidate.name for candidate in selection.candidates]


def test_highest_dice_over_all_folds_wins(work):
    add_model(work, "worse", without_slices(3))
    add_model(work, "better", without_slices(1))
    add_model(work, "worst", without_slices(5))
    path, selection = select(work)
    assert path == work / "selection.json" and Selection.read(path) == selection
    assert names(selection) == ["better", "worse", "worst"] and selection.cases == 4 and selection.folds == ("0", "1")
    assert selection.models == ("models/better",) and selection.model_folders(path) == [work / "models/better"]
    first, second, _ = selection.candidates
    assert first.behind == 0 and second.behind > 0 and second.dice < first.dice
    assert second.error == pytest.approx(0, abs=1e-9)  # all cases lose alike
    assert selection.command == f"se_predict -i INPUT -o OUTPUT --selection {path}"


def test_the_folder_above_will_do_where_it_holds_one_dataset(work):
    add_model(work, "only", right)
    assert select(work.parent)[0] == work / "selection.json"
    (work.parent / "other/models").mkdir(parents=True)
    with pytest.raises(InputError, match="models of several datasets: other, raw"):
        select(work.parent)
    with pytest.raises(InputError, match="no models in this folder"):
        select(work / "preprocessed")


def test_models_without_all_folds_are_left_out_and_named(work):
    add_model(work, "half", right, {"0": FOLDS["0"]})
    add_model(work, "whole", without_slices(2))
    selection = select(work)[1]
    assert names(selection) == ["whole"] and selection.left_out == ("half: fold 1 not validated",)
    assert names(select(work, options=SelectionOptions(folds=(0,)))[1]) == ["half", "whole"]
    with pytest.raises(InputError, match=r"no model was validated on all of the folds 7: half: fold 7 not validated"):
        select(work, options=SelectionOptions(folds=(7,)))


def test_the_fold_of_all_cases_is_no_validation(work):
    add_model(work, "one", right)
    add_model(work, "everything", right, {"all": CASES})
    (work / "splits.json").unlink()
    selection = select(work)[1]
    assert selection.folds == ("0", "1") and names(selection) == ["one"]


def test_a_case_must_not_count_twice(work):
    add_model(work, "double", right, {"0": CASES[:3], "1": CASES[2:]})
    with pytest.raises(InputError, match="1 cases are validated by several folds, such as case_2"):
        select(work)


def test_models_are_compared_on_the_cases_that_all_have(work):
    add_model(work, "all_cases", without_slices(1))
    add_model(work, "fewer", without_slices(2), {"0": CASES[:1], "1": CASES[2:]})
    selection = select(work)[1]
    assert selection.cases == 3 and selection.left_out == ("1 cases that not all models validated",)


def test_specks_are_taken_away_where_that_helps(work):
    add_model(work, "specked", with_specks)
    selection = select(work)[1]
    smallest = min(np.count_nonzero(reference(work, case) == 2) for case in CASES)  # in one piece, of voxels of 1 mm
    assert selection.postprocessing.rules == {"outer": Rule(smallest_volume=0.1 * smallest)}
    gain = selection.gains["outer"]
    assert gain.before < gain.after == 1 and gain.better == 4 and gain.worse == 0
    assert select(work, options=SelectionOptions(postprocessing=False))[1].postprocessing == Postprocessing()


def test_nothing_is_taken_away_where_nothing_is_gained(work):
    add_model(work, "sound", without_slices(2))
    assert select(work)[1].postprocessing == Postprocessing()


def test_an_average_is_predicted_and_scored_as_se_predict_would(work):
    models = [add_model(work, name, without_slices(4), seed=seed) for seed, name in enumerate(("a", "b", "c"))]
    selection = select(work, options=SelectionOptions(ensembles=2, device="cpu"))[1]
    assert sorted(names(selection)) == ["a", "a + b", "b", "c"]
    folder = work / "selection/a+b_final"
    predictor = Predictor.load(models[:2], "cpu", folds=[1])
    for case in FOLDS["1"]:
        image, geometry = read_image((work.parents[1] / f"raw/imagesTr/{case}_0000.nii.gz",))
        stored = read_labels(folder / f"fold_1/{case}.nii.gz")[0]
        assert np.array_equal(stored, predictor.segment(image, geometry).labels)
    assert len(list(folder.glob("fold_*/*.nii.gz"))) == 4


def test_predictions_are_kept_until_the_weights_change(work, monkeypatch, caplog):
    for seed, name in enumerate(("a", "b")):
        add_model(work, name, without_slices(4), seed=seed)
    options = SelectionOptions(ensembles=2, device="cpu")
    first = select(work, options=options)[1]
    predicted_now = []
    monkeypatch.setattr(predicted, "predict_cases", lambda _, cases, *rest, **more: predicted_now.extend(cases) or {})
    assert select(work, options=options)[1] == first and predicted_now == []
    add_model(work, "b", without_slices(4), seed=7)
    with caplog.at_level(logging.INFO, logger="inference"), pytest.raises(InputError):  # nothing is written by the stand-in
        select(work, options=options)
    assert predicted_now == FOLDS["0"] and "a+b_final has segmentations from other weights" in caplog.text


def test_cases_that_cannot_be_predicted_are_named(work, monkeypatch):
    for seed, name in enumerate(("a", "b")):
        add_model(work, name, right, seed=seed)
    monkeypatch.setattr(predicted, "predict_cases", lambda _, cases, *rest, **more: {"case_0": ValueError("broken")})
    with pytest.raises(RuntimeError, match="1 cases cannot be predicted: case `case_0`: broken"):
        select(work, options=SelectionOptions(ensembles=2, device="cpu"))


def test_best_checkpoints_are_compared_where_they_are(work, caplog):
    add_model(work, "a", without_slices(4), checkpoints=("final", "best"))
    add_model(work, "b", without_slices(4))
    selection = select(work, options=SelectionOptions(checkpoints=True, device="cpu"))[1]
    assert sorted(names(selection)) == ["a", "a (best)", "b"]
    assert "b_best is not compared" in caplog.text and "no best weights" in caplog.text


def test_a_single_model_is_preferred_to_an_average_that_is_no_better(work, monkeypatch):
    for seed, name in enumerate(("a", "b")):
        add_model(work, name, right, seed=seed)
    from inference.selection import run
    from inference.selection.candidates import Candidate, find_candidates

    (single, _), _ = find_candidates(work, ["0", "1"])
    both = Candidate((work / "models/a", work / "models/b"), "final", single.folds, single.cases, single.segmentations)
    monkeypatch.setattr(run, "_predict_others", lambda *_: [both])
    selection = select(work)[1]
    assert len(selection.candidates) == 3 and len(selection.models) == 1


def test_files_that_have_gone_are_named(work):
    add_model(work, "a", with_specks)
    (work.parents[1] / "raw/labelsTr/case_1.nii.gz").unlink()
    with pytest.raises(InputError, match=r"case `case_1`: .*case_1.nii.gz is missing"):
        select(work)
    shutil.rmtree(work / "preprocessed")
    with pytest.raises(InputError, match="case `case_0`: not in"):
        select(work)


def test_command(work, monkeypatch, capsys):
    add_model(work, "specked", with_specks)
    add_model(work, "worse", without_slices(4))

    def command(*arguments):
        monkeypatch.setattr("sys.argv", ["se_select", *map(str, arguments)])
        return main()

    assert command(work, "-o", work / "chosen.json") == 0
    printed = capsys.readouterr().out
    assert "over 4 validation cases of fold 0, 1" in printed and "Of outer keep pieces of at least" in printed
    assert printed.endswith(f"--selection {work / 'chosen.json'}\n")
    assert command(work, "--jobs", 0) == 2 and command(work / "nowhere") == 2


def test_scores_of_labels_that_a_model_does_not_predict_are_refused(work):
    metrics = add_model(work, "wrong", lambda labels, case: labels) / "fold_0/validation/metrics.json"
    metrics.write_text(metrics.read_text().replace('"inner"', '"kidney"'))
    with pytest.raises(InputError, match=r"metrics\.json: it has scores of labels that the model does not predict: kidney"):
        find_candidates(work, ["0", "1"])
