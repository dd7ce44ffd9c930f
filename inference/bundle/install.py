"""Install a bundle as a model folder."""

import hashlib
import logging
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from configs.errors import Fault, InputError, raise_faults
from configs.files import PARTIAL
from configs.folders import PLAN
from configs.outputs import folder_faults
from configs.plan import ModelPlan
from inference.bundle.contents import Manifest
from inference.bundle.verify import chunks, verify_bundle
from inference.model import load_model

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def folder_in_use(target: Path) -> Iterator[Path]:
    """Yield a new temporary folder beside `target`, to be renamed to it; it is removed at the end if it still exists.

    `remove_leftovers` removes the folders of killed processes. If an `OSError` names no file, it gets `target` as its file.
    """
    temporary, lock = _make(target)
    try:
        yield temporary
    except OSError as error:
        if error.errno is not None and error.filename is None:  # the error of a full disk names no file
            error.filename = str(target)
        raise
    finally:
        # Keep the first error, rather than one about deleting on a failed disk.
        shutil.rmtree(temporary, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def remove_leftovers(target: Path) -> None:
    """Remove temporary folders for this target whose process no longer exists."""
    for folder in target.parent.glob(f"{_prefix(target)}*"):
        if folder.is_symlink() or not folder.is_dir():
            continue
        lock = _lock(folder)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _make(target: Path) -> tuple[Path, int | None]:
    """Create the folder, and return it with its lock, if the system has locks."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_prefix(target), dir=target.parent))
        lock = _lock(folder)
        if lock is None or _is_same(folder, lock):
            return folder, lock
        os.close(lock)  # removed as a leftover before it was locked


def _prefix(target: Path) -> str:
    """Return the prefix of all temporary folders for one target, short even if its name is long."""
    return f"{PARTIAL}{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:12]}-"


def _lock(folder: Path) -> int | None:
    """Return an open descriptor that holds the folder's lock; None if another process holds it or there are no locks."""
    if fcntl is None:
        return None
    descriptor = None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        if descriptor is not None:
            os.close(descriptor)
        return None
    return descriptor


def _is_same(folder: Path, descriptor: int) -> bool:
    with suppress(OSError):
        return os.path.samestat(folder.stat(), os.fstat(descriptor))
    return False


_logger = logging.getLogger(__name__)


def import_bundle(path: str | Path, folder: str | Path) -> Manifest:
    """Verify a bundle, and unpack it into a new model folder, completely or not at all.

    Files go into a temporary folder, their checksums are compared again, and every network is built and given its weights before the
    folder is renamed. Leftovers of killed imports into the same folder are removed.

    Raises:
        InputError: the folder exists, there is too little space, or the bundle is invalid.
    """
    path, folder = Path(path), Path(folder)
    if folder.exists() or folder.is_symlink():
        raise InputError(Fault(str(folder), "the folder already exists", "Choose a new folder with -o, or remove this one"))
    raise_faults(folder_faults(folder.parent))
    manifest = verify_bundle(path)
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    needed, free = sum(file.bytes for file in manifest.files.values()), shutil.disk_usage(folder.parent).free
    if needed > free:
        raise InputError(Fault(str(folder.parent), f"{needed} bytes are needed, but only {free} are free", "Free some space"))
    with folder_in_use(folder) as temporary:
        with zipfile.ZipFile(path) as archive:
            for name, listed in manifest.files.items():
                _unpack(archive, name, temporary / name, listed.sha256)
        _try_out(temporary, manifest)
        temporary.chmod(0o777 & ~_umask())
        temporary.rename(folder)
    return manifest


def _unpack(archive: zipfile.ZipFile, name: str, target: Path, checksum: str) -> None:
    target.parent.mkdir(exist_ok=True)
    digest = hashlib.sha256()
    with archive.open(name) as stream, target.open("xb") as copy:
        for chunk in chunks(stream):
            copy.write(chunk)
            digest.update(chunk)
        copy.flush()
        os.fsync(copy.fileno())
    if digest.hexdigest() != checksum:
        raise InputError(Fault(name, "the bundle changed while it was read", "Import it from a file that no process changes"))


def _try_out(folder: Path, manifest: Manifest) -> None:
    """Build the networks with their weights, which finds missing, unexpected and misshapen tensors. A custom network class is skipped,
    because its code is not in the bundle and nothing that a bundle names is imported."""
    named = ModelPlan.read(folder / PLAN).network.network_class
    if named is not None:
        _logger.warning("the bundle lacks the code of its network; if you trust it, predict with --network-class %s", named)
        return
    checkpoints = {checkpoint for _, checkpoint in manifest.weights()}
    for checkpoint in sorted(checkpoints):
        folds = [fold for fold, kind in manifest.weights() if kind == checkpoint]
        for fold in folds:  # one at a time, to hold one network in memory
            try:
                load_model(folder, [fold], checkpoint)
            except InputError as error:
                raise_faults(Fault(fault.where.replace(f"{folder}/", ""), fault.problem, fault.remedy) for fault in error.faults)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
