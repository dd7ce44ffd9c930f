"""Names stay in their folder, and outputs that cannot be written are found beforehand without leaving a trace."""

import tempfile
from pathlib import Path

import pytest

from configs import outputs
from configs.errors import InputError
from configs.folders import DatasetFolder
from configs.outputs import file_faults, folder_faults, held, name_faults
from configs.plan import Plan
from tests.inference.models import plan

OUT = ("../x", "../../escape", "/tmp/x", "a/b", "", ".", "..", "a\0b")
IN = ("case_0", "a b", "...", ".hidden", "ü", "a.b", "-x", "~", "a\\b", "CON", "c'", "2024:01")


@pytest.mark.parametrize("name", OUT)
def test_names_that_lead_out(name: str) -> None:
    (fault,) = name_faults("case", [name])
    assert fault.where == f"case `{name}`" and str(fault).isprintable()


def test_names_that_are_no_text() -> None:
    """Names of files may hold any bytes; Python shows those that are not UTF-8 by surrogates, which cannot be written."""
    (fault,) = name_faults("case", ["a", "case_\udcff"])
    assert fault.where == r"case `case_\udcff`" and "not valid UTF-8" in str(fault)
    assert str(fault).encode()


@pytest.mark.parametrize("name", IN)
def test_names_that_are_names(name: str) -> None:
    assert not list(name_faults("case", [name]))


@pytest.mark.parametrize("tag", [name for name in OUT if name])
def test_tags_that_lead_out(tmp_path: Path, tag: str) -> None:
    with pytest.raises(InputError, match="tag `"):
        DatasetFolder(tmp_path).model("3d_fullres", "se", tag)


def test_an_empty_tag_is_none(tmp_path: Path) -> None:
    folder = DatasetFolder(tmp_path)
    assert folder.model("3d_fullres", "se", "").path == folder.model("3d_fullres", "se").path


@pytest.mark.parametrize("name", ["../x", "", "/x"])
def test_names_in_a_plan_that_lead_out(name: str) -> None:
    good = plan().model_dump()
    configuration = good["configurations"]["3d_fullres"]
    wrong = [
        {name: configuration},
        {"3d_fullres": configuration | {"networks": {name: configuration["networks"]["baseline"]}}},
        {"3d_fullres": configuration | {"previous": name}},
        {"3d_fullres": configuration | {"cases_of": name}},
    ]
    for configurations in wrong:
        with pytest.raises(ValueError, match="name `"):
            Plan.model_validate(good | {"configurations": configurations})


def test_outputs_that_can_be_written_leave_no_trace(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("x")
    before = tmp_path.stat().st_mtime_ns
    assert not list(file_faults(tmp_path / "old", tmp_path / "new", tmp_path / "a" / "b" / "new"))
    assert not list(folder_faults(tmp_path)) and not list(folder_faults(tmp_path / "a" / "b"))
    assert [path.name for path in tmp_path.iterdir()] == ["old"] and tmp_path.stat().st_mtime_ns == before


def test_outputs_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere")

    def told(faults: object) -> str:
        (fault,) = faults  # type: ignore[misc]
        return str(fault)

    assert "this is a folder" in told(file_faults(tmp_path / "folder"))
    assert "not a regular file" in told(file_faults(Path("/dev/null")))
    for place in ("file", "file/new", "file/new/newer", "lost", "lost/new"):
        assert f"{tmp_path / place.split('/')[0]} is not" in told(folder_faults(tmp_path / place))
    assert "is not" in told(file_faults(tmp_path / "file" / "metrics.json"))
    assert "File name too long" in told(folder_faults(tmp_path / ("a" * 300)))

    def refuse(**place: object) -> None:
        raise PermissionError(13, "Permission denied", str(place["dir"]))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    assert "nothing can be written there (Permission denied)" in told(file_faults(tmp_path / "new", tmp_path / "newer"))


def test_a_folder_is_held_by_one_process(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(InputError, match="another process is working in it"), held(tmp_path):
        pass
    with held(tmp_path), held(tmp_path / "missing"):
        outputs._let_go_of_all()  # as in a forked worker, which must not hold the folder after its process has ended
        with held(tmp_path):
            pass


def test_several_processes_read_in_a_folder_that_none_changes(tmp_path: Path) -> None:
    with held(tmp_path, to_read=True), held(tmp_path, to_read=True), pytest.raises(InputError, match="another"), held(tmp_path):
        pass
    with held(tmp_path), pytest.raises(InputError, match="another"), held(tmp_path, to_read=True):
        pass


def test_without_locks_nothing_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "fcntl", None)
    with held(tmp_path), held(tmp_path):
        pass
