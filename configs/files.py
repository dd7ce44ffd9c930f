"""Write files atomically (under a temporary name, synced, renamed), and read text, tables and JSON of people."""

import codecs
import csv
import fnmatch
import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from configs.errors import Fault, InputError, fault_of

PARTIAL = ".partial-"  # prefix of temporary files
_PART_BYTES = 4 * 1024 * 1024
_LOOKED_AT = 1024  # bytes in which zero bytes tell an encoding
_SHARE_OF_ZEROS = 4  # one zero byte in so many; UTF-8 text has none
ModelT = TypeVar("ModelT", bound="Value")


class Value(BaseModel):
    """Base of small immutable values, which are validated at creation, compared by content, and refuse unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def write(self, path: Path) -> None:
        """Write as indented JSON, atomically."""
        write_text(path, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def read(cls: type[ModelT], path: Path) -> ModelT:
        """Read from JSON.

        Raises:
            InputError: the file is missing, is not JSON, or breaks rules of this type; all of them are listed.
        """
        data = read_json(path)
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            faults = [
                Fault(f"{path}: {'.'.join(map(str, problem['loc']))}", problem["msg"], "Fix the file or regenerate it")
                for problem in error.errors()
            ]
            raise InputError(*faults) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and rename it to `path` after the block if there was no error.

    The temporary name keeps the file ending, because some writers depend on it. An `OSError` in the block that names no file gets the name
    of `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=PARTIAL, suffix=f"-{path.name}", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        with naming(path):
            yield temporary
            temporary.chmod(0o666 & ~umask())
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
            _sync_folder(path.parent)
    finally:
        with suppress(OSError):  # if deletion fails as well, the error of the block matters more
            temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an `OSError` in the block that names no file the name of `path`; that of a full disk names none."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def delete_partial_files(*folders: Path) -> None:
    """Delete what a killed process left half written in these folders."""
    for folder in folders:
        for file in folder.glob(f"{PARTIAL}*"):
            file.unlink(missing_ok=True)


def raise_if_full(path: Path, size: int) -> None:
    """Write `size` bytes to obtain the error of the system for a full disk, a limit or a quota.

    Use this after libraries that do not report why they cannot write.

    Raises:
        OSError: the bytes cannot be written.
    """
    with path.open("wb") as file:
        for start in range(0, size, _PART_BYTES):
            file.write(bytes(min(_PART_BYTES, size - start)))
        file.flush()
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Any) -> None:
    """Write plain data as indented JSON, atomically. Refuses NaN, which JSON does not have."""
    write_text(path, json.dumps(data, indent=2, allow_nan=False) + "\n")


def list_folder(folder: Path, pattern: str) -> list[Path]:
    """Return the sorted entries of a folder that match a shell pattern; none if there is no such folder.

    Unlike `Path.glob`, this does not treat an unreadable folder as empty.

    Raises:
        OSError: the folder cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if fnmatch.fnmatch(path.name, pattern))
    except (FileNotFoundError, NotADirectoryError):
        return []


def read_text(path: Path) -> str:
    """Read UTF-8 text that a person may have written or edited, with or without a byte order mark.

    Raises:
        InputError: the file is missing or unreadable, or has another encoding.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(Fault(str(path), "the file does not exist", "Check the path")) from error
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(fault_of(error, str(path), f"the file cannot be read ({reason})", "Check its permissions")) from error
    wide = _wide_encoding(content)
    if wide is not None:
        raise InputError(Fault(str(path), f"the text is encoded as {wide}", "Save the file as UTF-8"))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        problem = f"the text is not UTF-8 (byte 0x{content[error.start]:02x} in line {line}); it may be Windows-1252 or Latin-1"
        raise InputError(Fault(str(path), problem, "Save the file as UTF-8")) from error


def read_rows(path: Path) -> list[tuple[int, list[str]]]:
    """Read a table that a person may have written: the number of each line, and its values without spaces around them.

    Values are separated by commas or tabs, and may be quoted. Empty lines and lines that begin with `#` are left out.

    Raises:
        InputError: the file cannot be read as text, or a quotation has no end.
    """
    reader = csv.reader((line.replace("\t", ",") for line in read_text(path).splitlines()), skipinitialspace=True, strict=True)
    try:
        rows = [(reader.line_num, [value.strip() for value in row]) for row in reader]
    except csv.Error as error:
        raise InputError(Fault(f"{path}: line {reader.line_num}", f"not a line of a table ({error})", "Fix the line")) from error
    return [(number, row) for number, row in rows if any(row) and not row[0].startswith("#")]


def read_json(path: Path) -> Any:
    """Read plain data from JSON.

    Raises:
        InputError: the file is missing, unreadable or not JSON, or an object has a key twice.
    """
    text = read_text(path)
    try:
        return parse_json(text)
    except ValueError as error:
        raise InputError(Fault(str(path), f"the file is not valid JSON ({error})", "Fix the file or regenerate it")) from error


def parse_json(text: str | bytes) -> Any:
    """Parse JSON; bytes are UTF-8.

    Raises:
        ValueError: the text is not JSON, is nested too deeply, or an object has a key twice.
    """
    try:
        return json.loads(text if isinstance(text, str) else text.decode("utf-8-sig"), object_pairs_hook=_without_repetition)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object. JSON itself would silently keep the last of two values of a key."""
    if len(dict(pairs)) < len(pairs):
        repeated = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
        raise ValueError(f"an object has {', '.join(f'`{key}`' for key in repeated)} twice")
    return dict(pairs)


def _wide_encoding(content: bytes) -> str | None:
    """Return the name of an encoding with several bytes for each character, told by its byte order mark or by its zero bytes."""
    if content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "UTF-32"
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16"
    first = content[:_LOOKED_AT]
    return "UTF-16 or UTF-32" if first.count(0) * _SHARE_OF_ZEROS >= len(first) > 1 else None


def _sync_folder(folder: Path) -> None:
    """Make a new name survive a loss of power, on systems that can sync folders."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network disks cannot sync folders
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def umask() -> int:
    """Return which permissions new files of this process lack."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sha256_of(stream: IO[bytes], copy: IO[bytes] | None = None) -> str:
    """Return the SHA-256 of what is left of an opened file, and write that into `copy` if it is given."""
    found = hashlib.sha256()
    while part := stream.read(_PART_BYTES):
        found.update(part)
        if copy is not None:
            copy.write(part)
    return found.hexdigest()


def is_file(path: Path) -> bool:
    """Return whether there is such a regular file; False for names that no file can have, such as ones that are too long."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
