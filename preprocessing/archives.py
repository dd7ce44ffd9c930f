"""Read ZIP files of others: nothing is unpacked under a name that the file states, and no entry is larger than its bytes can justify."""

import lzma
import stat
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from configs.errors import DAMAGE, Fault, InputError, fault_of, listed, raise_faults

MOST_ENTRIES, MOST_EXPANSION = 200_000, 100
ARCHIVE_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, *DAMAGE)  # errors of damaged archives
_ENCRYPTED = 0x1


@contextmanager
def opened_archive(path: Path, remedy: str) -> Iterator[zipfile.ZipFile]:
    """Yield an opened ZIP file; whatever its damage raises in the block becomes an `InputError` with this remedy."""
    with archive_damage(path, remedy), zipfile.ZipFile(path) as archive:
        yield archive


@contextmanager
def archive_damage(path: Path, remedy: str) -> Iterator[None]:
    """Turn whatever a damaged ZIP file raises in the block into an `InputError` with this remedy."""
    try:
        yield
    except InputError:
        raise
    except ARCHIVE_DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(fault_of(error, str(path), f"not a ZIP file, or a damaged one ({reason})", remedy)) from error


def checked_entries(
    path: Path, archive: zipfile.ZipFile, spare: int, remedy: str, *, do_name: bool = True
) -> list[zipfile.ZipInfo]:
    """Return the entries of an archive.

    `spare` is the number of bytes that any entry may have, however few it is compressed to. Where names of entries may be those of
    patients, `do_name` is False, and messages only count them.

    Raises:
        InputError: there are too many entries, or one is encrypted, a link, leads outside, or claims more than its bytes can justify.
    """
    entries = archive.infolist()
    if len(entries) > MOST_ENTRIES:
        raise InputError(Fault(str(path), f"the archive has {len(entries)} entries, more than {MOST_ENTRIES}", remedy))
    unfit: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        if problem := _entry_problem(entry, spare):
            unfit[problem].append(entry.filename)
    raise_faults(_entries_fault(path, problem, names, len(entries), remedy, do_name) for problem, names in unfit.items())
    return entries


def _entries_fault(path: Path, problem: str, names: Sequence[str], number: int, remedy: str, do_name: bool) -> Fault:
    """One fault for all entries with the same problem: an export has thousands."""
    if not do_name:
        return Fault(str(path), f"{len(names)} of its {number} entries cannot be used: {problem}", remedy)
    return Fault(f"{path}: {listed(map(repr, names), 1)}", problem, remedy)


def _entry_problem(entry: zipfile.ZipInfo, spare: int) -> str | None:
    if not entry.filename:
        return "the entry has no name"
    path, mode = PurePosixPath(entry.filename.replace("\\", "/")), entry.external_attr >> 16
    if path.is_absolute() or ".." in path.parts or entry.filename[1:2] == ":":
        return "the name leads outside of the archive"
    if stat.S_ISLNK(mode):
        return "the entry is a link"
    if entry.flag_bits & _ENCRYPTED:
        return "the entry is encrypted"
    if entry.file_size > MOST_EXPANSION * entry.compress_size + spare:
        return f"the entry claims {entry.file_size} bytes in {entry.compress_size}"
    return None
