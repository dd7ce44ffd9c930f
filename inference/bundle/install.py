"""A bundle as a model folder again."""

import hashlib
import logging
import os
import shutil
import zipfile
from pathlib import Path

from configs.errors import Fault, InputError, raise_faults
from inference.bundle.contents import PLAN, Manifest
from inference.bundle.unpacking import folder_in_use, remove_leftovers
from inference.bundle.verify import chunks, verify_bundle
from inference.model import Model, load_model, read_plan

_logger = logging.getLogger(__name__)


def import_bundle(path: Path, folder: Path) -> Manifest:
    """Check a bundle and unpack it into a new model folder, whole or not at all.

    Files go into a temporary folder beside it, are compared with the checksums once more on the way, and every network is built and
    given its weights, before the folder gets its name. What an import into the same folder has left that was killed is removed.

    Raises:
        InputError: the folder exists, there is too little space, or the bundle is not what it should be.
    """
    if folder.exists() or folder.is_symlink():
        raise InputError(Fault(str(folder), "it exists", "Name a new folder with -o, or remove this one"))
    manifest = verify_bundle(path)
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    needed, free = sum(file.bytes for file in manifest.files.values()), shutil.disk_usage(folder.parent).free
    if needed > free:
        raise InputError(Fault(str(folder.parent), f"{needed} bytes are needed and {free} are free", "Free some space"))
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
        raise InputError(
            Fault(name, "the bundle changed while it was read", "Import it again from a file that nothing writes to")
        )


def _try_out(folder: Path, manifest: Manifest) -> None:
    """Build the networks: tensors that are missing, unexpected or misshapen are named. A network of the user's own is left: its code
    is not in the bundle, and nothing that a bundle names is imported."""
    named = Model(read_plan(folder / PLAN), {}).network_plan.network_class
    if named is not None:
        _logger.warning("its network is code that is not in the bundle: predict with --network-class %s, if you trust it", named)
        return
    checkpoints = {checkpoint for _, checkpoint in manifest.weights()}
    for checkpoint in sorted(checkpoints):
        folds = [fold for fold, kind in manifest.weights() if kind == checkpoint]
        for fold in folds:  # one at a time: memory for one network
            try:
                load_model(folder, [fold], checkpoint)
            except InputError as error:
                raise_faults(Fault(fault.where.replace(f"{folder}/", ""), fault.problem, fault.remedy) for fault in error.faults)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
