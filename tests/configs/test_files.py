"""Files are whole or absent; what cannot be read is told as faults."""

import errno
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import Field

from configs.errors import InputError
from configs.files import Value, list_folder, raise_if_full, read_json, read_rows, replacing, write_json, write_text

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]


class Pair(Value):
    name: str
    number: int = Field(ge=0)


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_and_json_come_back(tmp_path: Path) -> None:
    write_text(tmp_path / "deep" / "note.txt", "größer\n")
    write_json(tmp_path / "data.json", {"a": [1, 2.5, None]})
    assert (tmp_path / "deep" / "note.txt").read_text(encoding="utf-8") == "größer\n"
    assert read_json(tmp_path / "data.json") == {"a": [1, 2.5, None]}


def test_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    write_text(path, "old")
    with pytest.raises(RuntimeError, match="disk"), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("disk")
    assert path.read_text() == "old"
    assert entries(tmp_path) == ["plan.json"]


def test_failing_first_writer_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), replacing(tmp_path / "plan.json") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert entries(tmp_path) == []


def test_an_error_of_the_system_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"\[Errno 28\] No space left on device: '.*/plan.json'"), replacing(tmp_path / "plan.json"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(OSError, match=r"device: 'other'"), replacing(tmp_path / "plan.json"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "other")


def test_a_folder_that_cannot_be_read_is_not_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fold_1", "fold_0", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    assert list_folder(tmp_path, "fold_*") == [tmp_path / "fold_0", tmp_path / "fold_1"]
    assert list_folder(tmp_path / "none", "*") == list_folder(tmp_path / "file", "*") == []

    def refuse(path: Path) -> Iterator[Path]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(PermissionError):
        list_folder(tmp_path, "fold_*")


def test_the_first_error_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a disk that became read-only, nothing can be deleted either."""

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(RuntimeError, match="disk"), replacing(tmp_path / "plan.json"):
        raise RuntimeError("disk")


@pytest.mark.skipif(resource is None, reason="the system limits no files")
def test_the_system_says_why_a_library_cannot_write(tmp_path: Path) -> None:
    raise_if_full(tmp_path / "small", 10_000)
    with file_size_limit(1000), pytest.raises(OSError, match=r"\[Errno 27\] File too large"):
        raise_if_full(tmp_path / "large", 10_000)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_old_file_stays_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "image.nii.gz"
    write_text(path, "old")
    with replacing(path) as temporary:
        assert temporary.name.endswith(".nii.gz")
        assert temporary.parent == path.parent
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert entries(tmp_path) == ["image.nii.gz"]


def test_mode_is_that_of_an_ordinary_new_file(tmp_path: Path) -> None:
    (tmp_path / "ordinary").write_text("")
    write_text(tmp_path / "replaced", "")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ordinary", "replaced")]
    assert modes[0] == modes[1]


def test_json_refuses_nan_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    write_json(path, 1)
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, math.nan)
    assert read_json(path) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "the file does not exist"),
        (b"{", "the file is not valid JSON"),
        (b'{"a": 1, "b": {"c": 1, "c": 1}}', "an object has `c` twice"),
        (b"[" * 100_000, "it is nested too deeply"),
        ('{"a": 1}'.encode("utf-16"), "the text is encoded as UTF-16. Save the file as UTF-8"),
        ('{"a": 1}'.encode("utf-16-le"), "the text is encoded as UTF-16 or UTF-32"),
        ('{"a": 1}'.encode("utf-32"), "the text is encoded as UTF-32"),
        ('{\n"ö": 1}'.encode("latin-1"), r"the text is not UTF-8 \(byte 0xf6 in line 2\); it may be Windows-1252"),
    ],
)
def test_unreadable_json_is_a_fault(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "data.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_json(path)
    assert caught.value.faults[0].where == str(path)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / "data.json") == {"a": 1}


def test_rows_are_what_a_spreadsheet_or_an_editor_writes(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(b'\xef\xbb\xbfa, 1\r\n\r\n# note\r\n"b, c"\t2\r\n')
    assert read_rows(tmp_path / "table.csv") == [(1, ["a", "1"]), (4, ["b, c", "2"])]
    (tmp_path / "table.csv").write_text('a,1\n"b,2')
    with pytest.raises(InputError, match=r"table\.csv: line 2: not a line of a table"):
        read_rows(tmp_path / "table.csv")


def test_folder_in_place_of_a_file_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the file cannot be read"):
        read_json(tmp_path)


def test_value_round_trip_and_equality(tmp_path: Path) -> None:
    pair = Pair(name="a", number=1)
    pair.write(tmp_path / "pair.json")
    assert Pair.read(tmp_path / "pair.json") == pair


def test_value_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Pair(name="a", number=1).number = 2  # type: ignore[misc]


def test_every_broken_rule_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "pair.json"
    write_json(path, {"number": -1, "colour": "red"})
    with pytest.raises(InputError) as caught:
        Pair.read(path)
    assert [fault.where for fault in caught.value.faults] == [f"{path}: {key}" for key in ("name", "number", "colour")]
