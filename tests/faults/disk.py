"""A folder that can become full or read-only, or disappear: a small file system in memory if one can be mounted."""

import ctypes
import os
import shutil
from pathlib import Path

_READ_ONLY, _REMOUNT, _DETACH = 1, 32, 2  # flags of mount and umount2 in Linux
_LARGE = "64m"


class Disk:
    """A folder for the files of one run.

    Args:
        folder: new folder.
        mounts: whether to mount a file system there, which needs Linux and root, or to use an ordinary folder.
    """

    def __init__(self, folder: Path, mounts: bool):
        self.folder = folder
        self._mounts = mounts
        self._libc = ctypes.CDLL(None, use_errno=True)
        folder.mkdir(parents=True)
        if mounts:
            self._mount(0, f"size={_LARGE}")

    def fill_from(self, source: Path) -> None:
        """Copy the content of a folder. Links stay links."""
        shutil.copytree(source, self.folder, dirs_exist_ok=True, symlinks=True)

    def used(self) -> int:
        """Return the number of bytes that the files occupy in whole pages."""
        return sum(-(-path.stat().st_size // 4096) * 4096 for path in self.folder.rglob("*") if path.is_file())

    def limit(self, size: int) -> None:
        """Limit the size of the file system to a number of bytes."""
        self._mount(_REMOUNT, f"size={max(4096, size)}")

    def make_read_only(self) -> bool:
        """Make the disk read-only. Returns whether this was possible: it is not while a file is open for writing."""
        if not self._mounts:
            return self._chmod(0o555)
        return self._call("mount", None, str(self.folder).encode(), None, _REMOUNT | _READ_ONLY, None)

    def vanish(self) -> bool:
        """Make the content disappear, as a network disk would that is disconnected. Returns whether this was possible."""
        if not self._mounts:
            self.folder.rename(self.folder.with_name(f"{self.folder.name}.gone"))
            return True
        return self._call("umount2", str(self.folder).encode(), _DETACH)

    def heal(self) -> None:
        """Make the disk large and writable again."""
        if self._mounts:
            self._mount(_REMOUNT, f"size={_LARGE}")
        else:
            self._chmod(0o755)

    def close(self) -> None:
        """Unmount the file system and delete the folder."""
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
    """Return whether this process may mount file systems."""
    try:
        Disk(folder / "trial", mounts=True).close()
    except (OSError, AttributeError):
        shutil.rmtree(folder / "trial", ignore_errors=True)
        return False
    return True
