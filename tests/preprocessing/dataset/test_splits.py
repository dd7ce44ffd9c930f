"""Folds: every case validates once, the same as nnU-Net's, and a user's file is believed only where it makes sense."""

import json
from pathlib import Path

import pytest

from configs.errors import InputError
from configs.files import read_json, write_json
from preprocessing.dataset.splits import choose_split, make_splits, read_groups, read_splits

STORED = json.loads((Path(__file__).parent / "folds.json").read_text())
CASES = [f"case_{index:02d}" for index in range(12)]


def test_every_case_validates_exactly_once() -> None:
    splits = make_splits(CASES)
    assert len(splits) == 5
    assert sorted(case for split in splits for case in split.validation) == CASES
    for split in splits:
        assert sorted((*split.training, *split.validation)) == CASES


@pytest.mark.parametrize("number", range(2, 31))
def test_folds_are_those_of_nnunet_whatever_the_order_given(number: int) -> None:
    """The stored ones were made by scikit-learn 1.9.1: `KFold(min(5, number), shuffle=True, random_state=12345)`."""
    cases = [f"case_{index:02d}" for index in range(number)]
    expected = [tuple(cases[index] for index in part) for part in STORED[str(number)]]
    splits = make_splits(cases[::-1])
    assert [split.validation for split in splits] == expected
    assert [split.training for split in splits] == [tuple(case for case in cases if case not in part) for part in expected]


def test_folds_of_groups_are_those_that_were_stored() -> None:
    groups = {f"case_{index:02d}": f"p{7 * index % 9}" for index in range(25)}
    found = [split.validation for split in make_splits(list(groups), groups)]
    assert found == [tuple(f"case_{index:02d}" for index in part) for part in STORED["groups"]]


@pytest.mark.parametrize("number", [2, 3, 4])
def test_fewer_cases_than_folds_leave_one_out(number: int) -> None:
    splits = make_splits(CASES[:number])
    assert [len(split.validation) for split in splits] == [1] * number


def test_one_case_cannot_be_split_but_can_train_on_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"1 prepared case cannot be split.*--fold all"):
        choose_split(tmp_path / "splits.json", 0, ["only"])
    split = choose_split(tmp_path / "splits.json", "all", ["only"])
    assert split.training == split.validation == ("only",)


def test_file_is_written_once_and_then_the_users(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    first = choose_split(path, 1, CASES)
    assert read_json(path)[1]["val"] == list(first.validation)
    write_json(path, [{"train": CASES[:9], "val": CASES[9:]}])
    assert choose_split(path, 0, CASES).validation == tuple(CASES[9:])


def test_case_in_no_part_of_the_fold_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_json(tmp_path / "splits.json", [{"train": CASES[:9], "val": CASES[10:]}])
    choose_split(tmp_path / "splits.json", 0, CASES)
    assert "case_09" in caplog.text


def test_folds_that_are_the_same_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fold, other = {"train": ["a", "b"], "val": ["c"]}, {"train": ["a", "c"], "val": ["b"]}
    for folds, told in (([fold, other], 0), ([fold, other, {"train": ["b", "a"], "val": ["c"]}], 1)):
        (tmp_path / "splits.json").write_text(json.dumps(folds))
        assert len(read_splits(tmp_path / "splits.json")) == len(folds)
        assert len(caplog.messages) == told
    assert "folds 0 and 2 have the same cases" in caplog.text


def test_all_faults_of_a_file_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    write_json(path, [{"train": [], "val": CASES[:2]}, {"train": ["ghost", CASES[0]], "val": [CASES[0]]}])
    with pytest.raises(InputError) as caught:
        choose_split(path, 0, CASES)
    text = str(caught.value)
    assert len(caught.value.faults) == 3
    assert "fold 0: no training case" in text
    assert "twice, or both in train and val: case_00" in text
    assert "not prepared: ghost" in text


@pytest.mark.parametrize("content", [{}, [], [{"train": ["a"]}], [{"train": [1], "val": []}]])
def test_file_of_another_form_is_refused(tmp_path: Path, content: object) -> None:
    write_json(tmp_path / "splits.json", content)
    with pytest.raises(InputError, match="not a list of"):
        choose_split(tmp_path / "splits.json", 0, CASES)


@pytest.mark.parametrize("fold", [5, -1, "7"])
def test_fold_that_does_not_exist(tmp_path: Path, fold: int | str) -> None:
    with pytest.raises(InputError, match="folds 0 to 4"):
        choose_split(tmp_path / "splits.json", fold, CASES)


def test_groups_stay_together(tmp_path: Path) -> None:
    groups = {case: f"patient_{index // 2}" for index, case in enumerate(CASES)}
    for split in make_splits(CASES, groups):
        assert not {groups[case] for case in split.training} & {groups[case] for case in split.validation}
    assert sorted(case for split in make_splits(CASES, groups) for case in split.validation) == CASES
    by_case = [
        {groups[case] for case in split.training} & {groups[case] for case in split.validation} for split in make_splits(CASES)
    ]
    assert any(by_case), "cases alone would not have kept them together"
    assert len(make_splits(CASES[:6], groups)) == 3


@pytest.mark.parametrize(("name", "text"), [("g.csv", "case,group\n{}\n"), ("g.txt", "{}\n\n"), ("g.json", "")])
def test_group_files(tmp_path: Path, name: str, text: str) -> None:
    groups = {case: f"p{index // 3}" for index, case in enumerate(CASES)}
    lines = "\n".join(f"{case}, {group}" for case, group in groups.items())
    (tmp_path / name).write_text(text.format(lines) if text else json.dumps(groups))
    assert read_groups(tmp_path / name) == groups
    split = choose_split(tmp_path / "splits.json", 1, CASES, tmp_path / name)
    assert len(read_json(tmp_path / "splits.json")) == 4
    assert {groups[case] for case in split.validation} == {groups[split.validation[0]]}


def test_faults_of_groups(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no group is given for case_11"):
        make_splits(CASES, dict.fromkeys(CASES[:-1], "a"))
    with pytest.raises(InputError, match="1 group cannot be split"):
        make_splits(CASES, dict.fromkeys(CASES, "a"))
    (tmp_path / "wrong.csv").write_text("a,b\na,b,c\nd\n")
    with pytest.raises(InputError) as caught:
        read_groups(tmp_path / "wrong.csv")
    assert [fault.where.rpartition(": ")[2] for fault in caught.value.faults] == ["line 2", "line 3"]


def test_a_case_in_two_lines_has_no_group(tmp_path: Path) -> None:
    """The last line used to win, so that a group could train and validate."""
    (tmp_path / "twice.csv").write_text("c0,A\nc1,A\nc0,B\nc1,A\n")
    with pytest.raises(InputError) as caught:
        read_groups(tmp_path / "twice.csv")
    assert [fault.where.rpartition(": ")[2] for fault in caught.value.faults] == ["case `c0`", "case `c1`"]
    assert [fault.problem for fault in caught.value.faults] == ["lines 1 and 3 list it", "lines 2 and 4 list it"]
    (tmp_path / "twice.json").write_text('{"c0": "A", "c0": "B"}')
    with pytest.raises(InputError, match="an object has `c0` twice"):
        read_groups(tmp_path / "twice.json")


def test_a_table_that_a_spreadsheet_saved(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_bytes("\ufeffCase,Group\r\nc0,A\r\nc1,B\r\n".encode())
    assert read_groups(tmp_path / "g.csv") == {"c0": "A", "c1": "B"}
    (tmp_path / "g.csv").write_bytes("c0\tA\r\nc1\tB\r\n".encode("utf-16"))
    with pytest.raises(InputError, match=r"the text is encoded as UTF-16\. Save the file as UTF-8"):
        read_groups(tmp_path / "g.csv")


@pytest.mark.parametrize("line", ["c0,", ",A", "c0"])
def test_a_line_without_case_or_group_is_refused(tmp_path: Path, line: str) -> None:
    """Cases with an empty group would be one large group."""
    (tmp_path / "g.csv").write_text(f"c1,A\n{line}\n")
    with pytest.raises(InputError, match=r"line 2: .* is not `case,group`"):
        read_groups(tmp_path / "g.csv")


def test_folds_of_a_file_are_compared_with_the_groups_of_all_cases(tmp_path: Path) -> None:
    choose_split(tmp_path / "splits.json", 0, CASES)
    (tmp_path / "g.csv").write_text("\n".join(f"{case},{case}" for case in CASES[1:]))
    with pytest.raises(InputError, match="no group is given for case_00"):
        choose_split(tmp_path / "splits.json", 0, CASES, tmp_path / "g.csv")


def test_folds_made_before_that_separate_a_group_are_refused(tmp_path: Path) -> None:
    choose_split(tmp_path / "splits.json", 0, CASES)
    (tmp_path / "g.csv").write_text("\n".join(f"{case},p{index // 3}" for index, case in enumerate(CASES)))
    with pytest.raises(InputError, match=r"same groups train and validate: p.*Delete the file"):
        choose_split(tmp_path / "splits.json", 0, CASES, tmp_path / "g.csv")
