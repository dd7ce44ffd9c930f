"""Where DICOM files lie: a folder with everything below it, a single file, or a ZIP file, which is read without unpacking it."""

import os
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from configs.errors import Fault, InputError, fault_of
from configs.files import is_file
from preprocessing.archives import ARCHIVE_DAMAGE, archive_damage, checked_entries
from preprocessing.dicom.library import looks_like_dicom

_START = 132  # bytes that tell a DICOM file
_ARCHIVE = ".zip"  # ending of a ZIP file in lower case
_SPARE = 16 * 2**20  # bytes that an entry of a ZIP file may have, however few it is compressed to
_REMEDY = "Export the files again, as a folder or as an ordinary ZIP file"


class DicomSource(Protocol):
    """Files by their names."""

    def names(self) -> list[str]:
        """Return the sorted names of all files that may be DICOM files; hidden ones are left out."""
        ...

    def size(self, name: str) -> int:
        """Return the length of a file in bytes."""
        ...

    def content(self, name: str, most: int | None = None) -> bytes:
        """Return the bytes of a file, or the first ones. Raises `InputError` where it cannot be read."""
        ...


@dataclass(frozen=True)
class DicomFolder:
    """A folder with everything below it, or a single file. Links to folders are not followed."""

    path: Path

    def names(self) -> list[str]:
        """Return the paths of the files, relative to the folder; "" for a single file.

        Raises:
            InputError: a folder cannot be read, which must not pass for an empty one.
        """
        if not self.path.is_dir():
            return [""]
        found = []
        for folder, folders, files in os.walk(self.path, onerror=_raise):
            folders[:] = [name for name in folders if not name.startswith(".")]
            found += [(Path(folder) / name).relative_to(self.path).as_posix() for name in files if not name.startswith(".")]
        return sorted(name for name in found if is_file(self.path / name))

    def size(self, name: str) -> int:
        """Return the length of a file in bytes."""
        return (self.path / name).stat().st_size

    def content(self, name: str, most: int | None = None) -> bytes:
        """Return the bytes of a file, or the first ones."""
        try:
            with (self.path / name).open("rb") as file:
                return file.read(self.size(name) if most is None else min(most, self.size(name)))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(fault_of(error, "a DICOM file", f"it cannot be read ({reason})", "Copy it again")) from None


class DicomArchive:
    """A ZIP file, which stays open as long as this object lives."""

    def __init__(self, path: Path):
        self._path = path
        with archive_damage(path, _REMEDY):
            self._archive = zipfile.ZipFile(path)

    def names(self) -> list[str]:
        """Return the names of its files.

        Raises:
            InputError: it is damaged, or has entries that no export has.
        """
        entries = checked_entries(self._path, self._archive, _SPARE, _REMEDY, do_name=False)
        packed = sum(entry.compress_size for entry in entries)
        if packed > self._path.stat().st_size:
            raise InputError(Fault(str(self._path), f"its entries claim {packed} bytes, more than it has", _REMEDY))
        names = {entry.filename for entry in entries if not entry.is_dir()}
        if len(entries) > len({entry.filename for entry in entries}):
            raise InputError(
                Fault(str(self._path), "several of its entries have the same name, of which one hides the others", _REMEDY)
            )
        return sorted(name for name in names if not any(part.startswith(".") for part in PurePosixPath(name).parts))

    def size(self, name: str) -> int:
        """Return the length of a file in bytes."""
        return self._archive.getinfo(name).file_size

    def content(self, name: str, most: int | None = None) -> bytes:
        """Return the bytes of a file, or the first ones."""
        try:
            with self._archive.open(name) as file:
                return file.read(self.size(name) if most is None else min(most, self.size(name)))
        except ARCHIVE_DAMAGE as error:  # whose text names the entry
            problem = f"its part of the ZIP file is damaged ({type(error).__name__})"
            raise InputError(fault_of(error, "a DICOM file", problem, _REMEDY)) from None


def _raise(error: OSError) -> None:
    problem = f"a folder in it cannot be read ({error.strerror})"
    raise InputError(fault_of(error, "DICOM files", problem, "Check its permissions")) from None


def source_of(path: Path) -> DicomSource:
    """Return the files at a path.

    Raises:
        InputError: there is nothing.
    """
    if not path.exists():
        raise InputError(Fault(str(path), "no such file or folder", "Check the path"))
    return DicomArchive(path) if is_archive(path) else DicomFolder(path)


def is_archive(path: Path) -> bool:
    """Return whether a path is a ZIP file, whatever its name."""
    return path.is_file() and zipfile.is_zipfile(path)


def dicom_names(source: DicomSource) -> list[str]:
    """Return the names of the files that begin as DICOM files do, or cannot be read."""
    return [name for name in source.names() if holds_dicom(source, [name])]


def doubtful_names(source: DicomSource, names: Iterable[str]) -> dict[str, str]:
    """Return the names of files that may hold images all the same, each with the reason, beside those of DICOM files.

    These are ZIP files, and files without content in a folder of DICOM files, which would be missed in silence at an end of a series.
    """
    known = set(names)
    folders = {PurePosixPath(name).parent for name in known}
    found = {}
    for name in sorted({*source.names()} - known):
        if is_archive_name(name):
            found[name] = "it is a ZIP file inside of the input, which is not opened"
        elif PurePosixPath(name).parent in folders and not any(source.content(name, _START)):
            found[name] = "it is empty, as a file is that was not copied to its end"
    return found


def is_archive_name(name: str) -> bool:
    """Return whether a file inside of a source is a ZIP file by its name."""
    return name.lower().endswith(_ARCHIVE)


def holds_dicom(source: DicomSource, names: Iterable[str]) -> bool:
    """Return whether one of these files begins as DICOM files do, or cannot be read, so that whoever reads it finds the reason."""
    return any(_may_be_dicom(source, name) for name in names)


def _may_be_dicom(source: DicomSource, name: str) -> bool:
    try:
        return looks_like_dicom(source.content(name, _START))
    except InputError:
        return True
