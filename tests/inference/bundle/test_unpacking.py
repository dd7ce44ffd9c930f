"""What a killed import leaves is removed by the next one; what is in use, or somebody else's, stays."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fcntl")

from inference.bundle import new_folder as unpacking
from inference.bundle.export import export_bundle
from inference.bundle.install import import_bundle
from inference.bundle.new_folder import folder_in_use, remove_leftovers
from tests.inference.models import write_model

IN_USE = """
import sys, time
from pathlib import Path
from inference.bundle.new_folder import folder_in_use
with folder_in_use(Path(sys.argv[1])) as folder:
    (folder / "plan.json").write_text("{}")
    print(folder, flush=True)
    time.sleep(60)
"""


def begun(target: Path) -> tuple[subprocess.Popen, Path]:
    """A process that is unpacking, and its folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", IN_USE, str(target)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def end(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_killed_import_is_tidied_up_by_the_next(tmp_path: Path) -> None:
    export_bundle(write_model(tmp_path / "toy", ("0",)), tmp_path / "toy.zip")
    process, folder = begun(tmp_path / "imported")
    assert folder.parent == tmp_path and folder.is_dir()
    remove_leftovers(tmp_path / "imported")
    assert folder.is_dir(), "its process lives"
    end(process)
    import_bundle(tmp_path / "toy.zip", tmp_path / "imported")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["imported", "toy", "toy.zip"]


def test_only_own_leftovers_are_removed(tmp_path: Path) -> None:
    process, folder = begun(tmp_path / "one")
    end(process)
    others = [tmp_path / ".partial-x", tmp_path / f"{folder.name[:-9]}x", tmp_path / "one-plan"]
    for other in others:
        other.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link, file = tmp_path / f"{folder.name}-link", tmp_path / f"{folder.name}-file"
    link.symlink_to(elsewhere)
    file.touch()
    remove_leftovers(tmp_path / "two")
    assert folder.is_dir()
    remove_leftovers(tmp_path / "one")
    assert not folder.exists() and elsewhere.is_dir() and link.is_symlink() and file.is_file()
    assert all(other.is_dir() for other in others)


def test_without_locks_nothing_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process, folder = begun(tmp_path / "one")
    end(process)
    monkeypatch.setattr(unpacking, "fcntl", None)
    with folder_in_use(tmp_path / "one") as own:
        remove_leftovers(tmp_path / "one")
        assert folder.is_dir() and own.is_dir()
    assert folder.is_dir() and not own.exists()


def test_a_folder_that_was_taken_for_a_leftover_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the making of the folder and its lock, another process may have removed it."""
    lock, taken = unpacking._lock, []

    def after_another(folder: Path) -> int | None:
        descriptor = lock(folder)
        if not taken:
            taken.append(folder)
            folder.rmdir()
        return descriptor

    monkeypatch.setattr(unpacking, "_lock", after_another)
    with folder_in_use(tmp_path / "one") as folder:
        assert folder.is_dir() and folder != taken[0]


def test_a_full_disk_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"No space left on device: '.*/one'"), folder_in_use(tmp_path / "one"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []
