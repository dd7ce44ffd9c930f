"""Files that are whole or absent: written under a temporary name, synced, renamed."""

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

PARTIAL = ".partial-"  # begins the names of files that are being written
_PART_BYTES = 4 * 1024 * 1024
ModelT = TypeVar("ModelT", bound="Value")


class Value(BaseModel):
    """A small frozen value: validated once when made, equal by content, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def write(self, path: Path) -> None:
        """Write as indented JSON, whole or not at all."""
        write_text(path, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def read(cls: type[ModelT], path: Path) -> ModelT:
        """Read from JSON.

        Raises:
            InputError: the file is missing, is no JSON, or breaks a rule of this type (every broken rule is listed).
        """
        data = read_json(path)
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            faults = [
                Fault(f"{path}: {'.'.join(map(str, problem['loc']))}", problem["msg"], "Correct it or make the file anew")
                for problem in error.errors()
            ]
            raise InputError(*faults) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well, sync it and rename it to `path`.

    The temporary name keeps the file's ending, so that writers which look at it behave the same. An `OSError` of the block names `path`
    where it named no file.
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
        if error.errno is not None and error.filename is None:  # a full disk names no file by itself
            error.filename = str(path)
        raise
    finally:
        with suppress(OSError):  # the error of the block counts, not that of a disk on which nothing can be deleted
            temporary.unlink(missing_ok=True)


def raise_if_full(path: Path, size: int) -> None:
    """Write as many bytes as were to be written, for the error of the system where there is no room (or a limit, or a quota).

    For libraries that do not say why they cannot write.

    Raises:
        OSError: it cannot be written.
    """
    with path.open("wb") as file:
        for start in range(0, size, _PART_BYTES):
            file.write(bytes(min(_PART_BYTES, size - start)))
        file.flush()
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    _write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, data: Any) -> None:
    """Write plain data as indented JSON, whole or not at all. NaN is refused: JSON has none."""
    write_text(path, json.dumps(data, indent=2, allow_nan=False) + "\n")


def list_folder(folder: Path, pattern: str) -> list[Path]:
    """What lies in a folder and has a name of this shell pattern, sorted; nothing where there is no such folder.

    `Path.glob` takes a folder that cannot be read for an empty one.

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
        InputError: the file is missing, unreadable or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(Fault(str(path), "the file does not exist", "Check the path")) from error
    except OSError as error:
        problem = f"the file cannot be read ({error.strerror})"
        raise InputError(fault_of(error, str(path), problem, "Check its permissions")) from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(Fault(str(path), f"the file is no valid JSON ({error})", "Correct it or make it anew")) from error


def _sync_folder(folder: Path) -> None:
    """Let a new name outlive a loss of power, on systems that can sync folders."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network disks sync no folders
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
