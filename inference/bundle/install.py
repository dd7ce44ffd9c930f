"""Install a bundle as a model folder."""

import logging
import os
import zipfile
from pathlib import Path

from configs.errors import Fault, InputError, raise_faults
from configs.files import sha256_of
from configs.folders import PLAN
from configs.plan import ModelPlan
from inference.bundle.contents import Manifest
from inference.bundle.new_folder import new_folder, target_faults
from inference.bundle.verify import verify_bundle
from inference.model import load_model

_logger = logging.getLogger(__name__)


def import_bundle(path: str | Path, folder: str | Path) -> Manifest:
    """Verify a bundle, and unpack it into a new model folder, completely or not at all.

    Files go into a temporary folder, their checksums are compared again, and every network is built and given its weights before the
    folder is renamed. Leftovers of killed imports into the same folder are removed.

    Raises:
        InputError: the folder exists, there is too little space, or the bundle is invalid.
    """
    path, folder = Path(path), Path(folder)
    raise_faults(target_faults(folder))
    manifest = verify_bundle(path)
    with new_folder(folder, sum(file.bytes for file in manifest.files.values())) as temporary:
        with zipfile.ZipFile(path) as archive:
            for name, listed in manifest.files.items():
                _unpack(archive, name, temporary / name, listed.sha256)
        _try_out(temporary, manifest)
    return manifest


def _unpack(archive: zipfile.ZipFile, name: str, target: Path, checksum: str) -> None:
    target.parent.mkdir(exist_ok=True)
    with archive.open(name) as stream, target.open("xb") as copy:
        digest = sha256_of(stream, copy)
        copy.flush()
        os.fsync(copy.fileno())
    if digest != checksum:
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
