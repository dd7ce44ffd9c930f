"""A folder that can run full, become read-only, or vanish: a small file system in memory where one may be mounted."""

import ctypes
import os
import shutil
from pathlib import Path

_READ_ONLY, _REMOUNT, _DETACH = 1, 32, 2  # of Linux's mount and umount2
_LARGE = "64m"


class Disk:
    """A folder for the files of one run.

    Args:
        folder: to use; it is emptied.
        mounts: mount a file system of its own there (Linux, and root), or use the folder as it is.
    """

    def __init__(self, folder: Path, mounts: bool):
        self.folder = folder
        self._mounts = mounts
        self._libc = ctypes.CDLL(None, use_errno=True)
        folder.mkdir(parents=True)
        if mounts:
            self._mount(0, f"size={_LARGE}")

    def fill_from(self, source: Path) -> None:
        """Copy a folder's content, links as links."""
        shutil.copytree(source, self.folder, dirs_exist_ok=True, symlinks=True)

    def used(self) -> int:
        """Bytes in files, in whole pages."""
        return sum(-(-path.stat().st_size // 4096) * 4096 for path in self.folder.rglob("*") if path.is_file())

    def limit(self, size: int) -> None:
        """Leave room for this many bytes in all."""
        self._mount(_REMOUNT, f"size={max(4096, size)}")

    def make_read_only(self) -> bool:
        """Returns whether it could be done: not while a file is open for writing."""
        if not self._mounts:
            return self._chmod(0o555)
        return self._call("mount", None, str(self.folder).encode(), None, _REMOUNT | _READ_ONLY, None)

    def vanish(self) -> bool:
        """What was there is gone, as with a network disk that is taken away. Returns whether it could be done."""
        if not self._mounts:
            self.folder.rename(self.folder.with_name(f"{self.folder.name}.gone"))
            return True
        return self._call("umount2", str(self.folder).encode(), _DETACH)

    def heal(self) -> None:
        """Room enough, and writable."""
        if self._mounts:
            self._mount(_REMOUNT, f"size={_LARGE}")
        else:
            self._chmod(0o755)

    def close(self) -> None:
        """Give everything back."""
        if self._mounts:
            self._call("umount2", str(self.folder).encode(), _DETACH)
        for folder in (self.folder, self.folder.with_name(f"{self.folder.name}.gone")):
            shutil.rmtree(folder, ignore_errors=True)

    def _chmod(self, mode: int) -> bool:
        for folder in (self.folder, *self.folder.rglob("*")):
            if folder.is_dir():
                folder.chmod(mode)
        return True

    def _mount(self, flags: int, options: str) -> None:
        if not self._call("mount", b"tmpfs", str(self.folder).encode(), b"tmpfs", flags, options.encode()):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(self.folder))

    def _call(self, name: str, *arguments: object) -> bool:
        return bool(getattr(self._libc, name)(*arguments) == 0)


def can_mount(folder: Path) -> bool:
    """Whether file systems can be mounted here."""
    try:
        Disk(folder / "trial", mounts=True).close()
    except (OSError, AttributeError):
        shutil.rmtree(folder / "trial", ignore_errors=True)
        return False
    return True
