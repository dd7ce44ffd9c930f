"""Write files atomically (under a temporary name, synced, renamed), and read and write JSON."""

import fnmatch
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from configs.errors import Fault, InputError, fault_of

PARTIAL = ".partial-"  # prefix of temporary files
_PART_BYTES = 4 * 1024 * 1024
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
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.errno is not None and error.filename is None:  # the error of a full disk names no file
            error.filename = str(path)
        raise
    finally:
        with suppress(OSError):  # if deletion fails as well, the error of the block matters more
            temporary.unlink(missing_ok=True)


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
    _write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


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


def read_json(path: Path) -> Any:
    """Read plain data from JSON.

    Raises:
        InputError: the file is missing, unreadable or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(Fault(str(path), "the file does not exist", "Check the path")) from error
    except OSError as error:
        problem = f"the file cannot be read ({error.strerror})"
        raise InputError(fault_of(error, str(path), problem, "Check its permissions")) from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(Fault(str(path), f"the file is not valid JSON ({error})", "Fix the file or regenerate it")) from error


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


def _write(path: Path, write: Callable[[Path], object]) -> None:
    with replacing(path) as temporary:
        write(temporary)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def is_file(path: Path) -> bool:
    """Return whether there is such a regular file; False for names that no file can have, such as ones that are too long."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
