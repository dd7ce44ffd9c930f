from pathlib import Path

import pytest

from configs.errors import Fault, InputError
from planners.report.findings import find_all, find_early, named
from preprocessing.dataset.splits import Split, find_splits, make_splits
from tests.planners.report.datasets import case, describe, fingerprint_of, plan_of, sizes, sound


def usual_folds(cases):
    return find_splits(Path("absent.json"), list(cases))


def titles(cases, description=None, folds=None, plan=None, **changes):
    fingerprint = fingerprint_of(cases, **changes)
    plan = plan or plan_of(fingerprint, description)
    return [finding.title for finding in find_all(fingerprint, plan, usual_folds(cases) if folds is None else folds)]


def texts(cases, description=None, folds=None, plan=None, **changes):
    fingerprint = fingerprint_of(cases, **changes)
    plan = plan or plan_of(fingerprint, description)
    return " ".join(finding.text for finding in find_all(fingerprint, plan, usual_folds(cases) if folds is None else folds))


def test_nothing_to_find_in_sound_data():
    assert titles(sound()) == []


def test_label_that_never_occurs():
    cases = {name: case({"liver": sizes(1000), "tumour": sizes()}) for name in sound()}
    assert titles(cases) == ["1 label never present"]
    assert "No case has tumour," in texts(cases)


@pytest.mark.parametrize("part", ["training", "validation"])
def test_label_absent_from_a_fold(part):
    cases = sound(4)
    rare = cases | {name: case({"liver": sizes(1000), "tumour": sizes()}) for name in ("case_2", "case_3")}
    with_it, without = ("case_0", "case_1"), ("case_2", "case_3")
    fold = Split(without, with_it) if part == "training" else Split(with_it, without)
    folds = [Split(("case_0", "case_2"), ("case_1", "case_3")), fold]
    assert titles(rare, folds=folds) == [f"1 label absent from {part} in 1 fold"]
    assert f"No {part} case of fold 1 has tumour" in texts(rare, folds=folds)
    assert titles(cases, folds=folds) == []


def test_one_case_has_no_folds():
    assert titles(sound(1)) == ["No folds"]


def test_label_of_few_voxels_at_the_planned_spacing():
    cases = sound() | {"case_3": case({"liver": sizes(1000), "tumour": sizes(26)})}
    assert titles(cases) == ["1 label with very few voxels in 2d and 3d_fullres"]
    assert "tumour (1 of 10 cases, the smallest has 26 voxels)" in texts(cases)
    assert titles(sound() | {"case_3": case({"liver": sizes(1000), "tumour": sizes(27)})}) == []
    fine = {name: case({"liver": sizes(5000, voxel=0.1), "tumour": sizes(200, voxel=0.1)}) for name in sound()}
    assert titles(fine) == ["1 label with very few voxels in 2d and 3d_fullres"]  # 20 voxels at 1 mm


def sided():
    description = describe({"background": 0, "kidney_left": 1, "kidney_right": 2})
    fingerprint = fingerprint_of(sound(description=description))
    return description, fingerprint, plan_of(fingerprint, description, networks=("baseline",))


def test_left_and_right_with_mirroring():
    description, fingerprint, plan = sided()
    folds = usual_folds(fingerprint.cases)
    assert find_all(fingerprint, plan, folds) == []
    mirrored = plan.network("3d_fullres", "baseline").model_copy(update={"mirror_axes": (0, 2)})
    (finding,) = find_all(fingerprint, plan.only("3d_fullres", "baseline", mirrored).whole, folds)
    assert finding.title == "Labels that differ only in their side, with mirroring along this axis"
    assert "kidney_left and kidney_right differ" in finding.text and "baseline in 3d_fullres mirrors" in finding.text
    del description


def test_as_stored_any_mirroring_may_swap_the_sides():
    _, fingerprint, plan = sided()
    folds = usual_folds(fingerprint.cases)
    assert find_all(fingerprint, plan.model_copy(update={"orientation": "as-stored"}), folds)


def test_warnings_of_validation_are_gathered_by_kind():
    empty = [
        Fault(f"case `case_{index}`", "the label file contains only background", "Check that this is intended")
        for index in (1, 4)
    ]
    lost = [Fault(f"case `case_{index}`", f"{index} of 90 labelled voxels lie outside", "Check them") for index in range(5)]
    constant = [Fault("case `case_2`", "channel 0 (MR) is 7 everywhere", "Check the image")]
    text = texts(sound(), warnings=(*empty, *lost, *constant))
    assert "case `case_1` and case `case_4`: the label file contains only background. Check that this is intended." in text
    assert "case `case_0`: 0 of 90 labelled voxels lie outside; " in text and "; and 2 more like these. Check them." in text
    assert "case `case_2`: channel 0 (MR) is 7 everywhere. Check the image." in text


def test_unusual_spacing():
    cases = sound() | {"case_3": case({"liver": sizes(1000), "tumour": sizes(999)}, spacing=(7.5, 0.6, 0.6))}
    assert titles(cases) == ["1 case with an unusual spacing"]
    assert "case_3 (7.5 x 0.6 x 0.6 mm)" in texts(cases)


def test_names_in_a_sentence():
    assert named(["a"]) == "a"
    assert named(["a", "b", "c"]) == "a, b and c"
    assert named(list("abcdefgh")) == "a, b, c, d, e, f and 2 more"


def test_folds_of_the_file_count_where_it_is_there(tmp_path):
    path = tmp_path / "splits.json"
    assert find_splits(path, ["a"]) == []
    assert find_splits(path, ["c", "a", "b"]) == make_splits(["a", "b", "c"])
    path.write_text('[{"train": ["a"], "val": ["b"]}]')
    assert find_splits(path, ["a", "b", "c"]) == [Split(("a",), ("b",))]
    for broken in ("[3]", '[{"train": []}]', "3", '{"train": 1}'):
        path.write_text(broken)
        with pytest.raises(InputError, match="not a list of"):
            find_splits(path, ["a"])


def test_a_case_many_times_larger_than_the_others():
    """Its header says 20 mm, so that it would be resampled to 8,000 times the voxels of the others."""
    labels = {"liver": sizes(1000), "tumour": sizes(40)}
    cases = sound() | {"wrong": case(labels, spacing=(20.0, 20.0, 20.0))}
    assert "1 case many times larger than the median" in titles(cases)
    assert "wrong (1200 x 1280 x 1360 voxels) would be more than 16 times as large as the median case" in texts(cases)
    assert "The largest takes 8.36 GB for each channel" in texts(cases)
    assert titles(sound() | {"large": case(labels, shape=(120, 128, 136))}) == []  # eight times


def test_what_is_told_before_preprocessing():
    cases = {name: case({"liver": sizes(1000), "tumour": sizes()}) for name in sound()}
    fingerprint = fingerprint_of(cases | {"wrong": case({"liver": sizes(1000)}, spacing=(20.0, 20.0, 20.0))})
    found = [finding.title for finding in find_early(fingerprint, plan_of(fingerprint))]
    assert found == ["1 label never present", "1 case with an unusual spacing", "1 case many times larger than the median"]
