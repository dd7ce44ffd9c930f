"""Verify a bundle completely before any of it is written."""

import logging
import stat
import zipfile
from collections import Counter
from pathlib import Path
from typing import BinaryIO, cast

from pydantic import ValidationError

from configs.dataset import DatasetDescription
from configs.errors import DAMAGE, Fault, InputError, collecting, raise_faults
from configs.files import Value, parse_json, sha256_of
from configs.folders import CALIBRATION, DATASET, EQUIVARIANCE, FORMER_SCALES, PLAN, SETTINGS
from configs.plan import ModelPlan, Plan
from configs.training import TrainingConfig
from inference.bundle.contents import CARD, MANIFEST, MOST_FILES, MOST_TEXT_BYTES, SELECTION, Manifest, is_allowed, is_weights
from inference.bundle.tensors import implausible, tensor_shapes
from inference.evaluation.equivariance import EquivarianceCurve, is_of_other_version
from inference.prediction.selection import ALONE, Selection
from inference.sizes.calibration import Calibration

_logger = logging.getLogger(__name__)
_REMEDY = "Do not use this bundle; get it again from a source that you trust"
_ENCRYPTED = 0x1
_KINDS: dict[str, type[Value]] = {
    PLAN: Plan,
    SETTINGS: TrainingConfig,
    CALIBRATION: Calibration,
    DATASET: DatasetDescription,
    EQUIVARIANCE: EquivarianceCurve,
    SELECTION: Selection,
}


def verify_bundle(path: Path) -> Manifest:
    """Verify a bundle without writing anything. Returns its manifest, which lists the files to unpack.

    Only names of files in a model folder are allowed, so no path is absolute, leads elsewhere or names code. There are no links, folders,
    repeated names, encrypted or compressed entries, so nothing can be larger than the bundle itself. Sizes and checksums equal the
    manifest's, every JSON file has its type, and the header of every weights file describes it exactly and fits the plan. An equivariance
    error that another version of this software measured is left out of the manifest with a warning.

    Raises:
        InputError: the bundle is invalid; all faults of the first stage that has any are listed.
    """
    if path.is_dir():
        remedy = "Give the file of a bundle; a model folder of this software can be used as it is"
        raise InputError(Fault(str(path), "a bundle is a file, but this is a folder", remedy))
    if not path.is_file():
        raise InputError(Fault(str(path), "the file does not exist", "Check the path"))
    try:
        with zipfile.ZipFile(path) as archive:
            _require_manifest(path, archive)
            raise_faults(_entry_faults(path, archive))
            manifest = _read_manifest(path, archive)
            raise_faults(_manifest_faults(path, archive, manifest))
            raise_faults(_checksum_faults(path, archive, manifest))
            manifest = _without_other_versions(path, archive, manifest)
            raise_faults(_content_faults(path, archive, manifest))
    except InputError:
        raise
    except (zipfile.BadZipFile, *DAMAGE) as error:  # invalid encodings, fields out of range, and others
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(Fault(str(path), f"not a bundle, or a damaged one ({reason})", "Get it again")) from error
    return manifest


def _require_manifest(path: Path, archive: zipfile.ZipFile) -> None:
    if MANIFEST not in archive.namelist():
        remedy = "Give a bundle, or the results of nnU-Net 2 as a folder or as the ZIP file of its export"
        raise InputError(Fault(str(path), f"not a bundle: {MANIFEST} is missing", remedy))


def _entry_faults(path: Path, archive: zipfile.ZipFile) -> list[Fault]:
    entries = archive.infolist()
    if len(entries) > MOST_FILES:
        return [_fault(path, f"the bundle has {len(entries)} files, more than {MOST_FILES}")]
    repeated = Counter(entry.filename for entry in entries)
    faults = [_fault(path, f"the name {name!r} occurs {count} times") for name, count in repeated.items() if count > 1]
    for entry in entries:
        problem = _entry_problem(entry)
        if problem:
            faults.append(_fault(path, f"{entry.filename!r} {problem}"))
    total, whole = sum(entry.file_size for entry in entries), path.stat().st_size
    if total > whole:
        faults.append(_fault(path, f"the files claim {total} bytes, but the bundle has {whole}"))
    return faults


def _entry_problem(entry: zipfile.ZipInfo) -> str | None:
    name, mode = entry.filename, entry.external_attr >> 16
    if not name:
        return "has no name"
    if name.startswith(("/", "\\")) or name[1:2] == ":":
        return "is an absolute path"
    if ".." in name.replace("\\", "/").split("/"):
        return "leads outside the folder"
    if stat.S_ISLNK(mode):
        return "is a link"
    if entry.is_dir() or stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return "is not a regular file"
    if name != MANIFEST and not is_allowed(name):
        return "is not a file of a model"
    if entry.flag_bits & _ENCRYPTED:
        return "is encrypted"
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
        return "is compressed, which is not allowed"
    if not is_weights(name) and entry.file_size > MOST_TEXT_BYTES:
        return f"has {entry.file_size} bytes, more than {MOST_TEXT_BYTES}"
    return None


def _read_manifest(path: Path, archive: zipfile.ZipFile) -> Manifest:
    try:
        return Manifest.model_validate(parse_json(archive.read(MANIFEST)))
    except ValueError as error:
        raise InputError(_fault(path, f"{MANIFEST} cannot be used: {_first_line(error)}")) from error


def _manifest_faults(path: Path, archive: zipfile.ZipFile, manifest: Manifest) -> list[Fault]:
    sizes = {entry.filename: entry.file_size for entry in archive.infolist() if entry.filename != MANIFEST}
    faults = [_fault(path, f"{name!r} is not in the manifest") for name in sizes if name not in manifest.files]
    faults += [_fault(path, f"{name!r} is in the manifest but not in the bundle") for name in manifest.files if name not in sizes]
    faults += [
        _fault(path, f"{name!r} has {sizes[name]} bytes, but the manifest says {listed.bytes}")
        for name, listed in manifest.files.items()
        if name in sizes and sizes[name] != listed.bytes
    ]
    if PLAN not in manifest.files:
        faults.append(_fault(path, f"{PLAN} is missing"))
    if not manifest.weights():
        faults.append(_fault(path, "weights are missing"))
    return faults


def _checksum_faults(path: Path, archive: zipfile.ZipFile, manifest: Manifest) -> list[Fault]:
    faults = []
    for name, listed in manifest.files.items():
        with archive.open(name) as stream:
            if sha256_of(stream) != listed.sha256:
                faults.append(_fault(path, f"{name!r} does not match its checksum in the manifest"))
    return faults


def _without_other_versions(path: Path, archive: zipfile.ZipFile, manifest: Manifest) -> Manifest:
    """Leave out weights of scales, and an equivariance error, of other versions of this software. No command needs them."""
    others = [FORMER_SCALES] if FORMER_SCALES in manifest.files else []
    others += [EQUIVARIANCE] if EQUIVARIANCE in manifest.files and _is_of_other_version(archive) else []
    for name in others:
        _logger.warning("%s: %s was written by another version of this software and is left out", path, name)
    return manifest.model_copy(update={"files": {name: file for name, file in manifest.files.items() if name not in others}})


def _is_of_other_version(archive: zipfile.ZipFile) -> bool:
    try:
        return is_of_other_version(parse_json(archive.read(EQUIVARIANCE)))
    except ValueError:  # damaged, which the check of the contents reports
        return False


def _content_faults(path: Path, archive: zipfile.ZipFile, manifest: Manifest) -> list[Fault]:
    faults = []
    read: dict[str, Value] = {}
    for name, kind in _KINDS.items():
        if name in manifest.files:
            try:
                read[name] = kind.model_validate(parse_json(archive.read(name)))
            except ValueError as error:
                faults.append(_fault(path, f"{name!r} cannot be used: {_first_line(error)}"))
    if CARD in manifest.files:
        try:
            archive.read(CARD).decode("utf-8")
        except UnicodeDecodeError:
            faults.append(_fault(path, f"{CARD!r} is not a text file"))
    plan = read.get(PLAN)
    if not isinstance(plan, Plan):
        return faults
    try:
        model_plan = ModelPlan(plan)
    except ValueError as error:
        return [*faults, _fault(path, f"{PLAN!r} plans {error}")]
    if DATASET in read and read[DATASET] != plan.dataset:
        faults.append(_fault(path, f"{DATASET!r} differs from the dataset of {PLAN!r}"))
    selection = read.get(SELECTION)
    if isinstance(selection, Selection):
        faults += _selection_faults(path, selection, manifest, plan.dataset)
    return faults + _weights_faults(path, archive, manifest, model_plan)


def _selection_faults(path: Path, selection: Selection, manifest: Manifest, description: DatasetDescription) -> list[Fault]:
    faults: list[Fault] = []
    if selection.models != (ALONE,):
        faults.append(_fault(path, f"{SELECTION!r} names other models: {', '.join(selection.models)}"))
    missing = [fold for fold in selection.folds if (fold, selection.checkpoint) not in manifest.weights()]
    if missing:
        faults.append(_fault(path, f"{SELECTION!r} names folds without {selection.checkpoint} weights: {', '.join(missing)}"))
    with collecting(faults):
        selection.postprocessing.check(description)
    return faults


def _weights_faults(path: Path, archive: zipfile.ZipFile, manifest: Manifest, plan: ModelPlan) -> list[Fault]:
    faults = []
    for name in manifest.weights().values():
        with archive.open(name) as stream:
            try:
                shapes = tensor_shapes(cast(BinaryIO, stream), manifest.files[name].bytes)
            except ValueError as error:
                faults.append(_fault(path, f"{name!r} is not a weights file: {_first_line(error)}"))
                continue
        problem = implausible(plan.network, shapes)
        if problem:
            faults.append(_fault(path, f"{name!r} does not fit {PLAN!r}: {problem}"))
    return faults


def _first_line(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"
    return str(error).splitlines()[0]


def _fault(path: Path, problem: str) -> Fault:
    return Fault(str(path), problem, _REMEDY)
