"""Find the files of trained models in a folder of nnU-Net's results, or in the ZIP file that it exports.

Nothing is unpacked under a name that a file states, and nothing is run.
"""

import os
import re
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from configs.errors import DAMAGE, Fault, InputError, fault_of, raise_faults
from configs.files import parse_json
from configs.folders import ModelFolder
from preprocessing.archives import checked_entries, opened_archive

PLANS, DATASET = "plans.json", "dataset.json"
KINDS = ("final", "best")  # nnU-Net's checkpoints of finished trainings
_CHECKPOINT = re.compile(rf"fold_(?P<fold>all|\d{{1,3}})/checkpoint_(?P<kind>{'|'.join(KINDS)})\.pth")
_STARTED = re.compile(r"fold_(?P<fold>all|\d{1,3})/checkpoint_[a-z]+\.pth")
_POSTPROCESSING = re.compile(r"crossval_results_folds_(?P<folds>[0-9a-z_]+)/postprocessing\.json")
_DEEPEST = 5  # folders above a checkpoint: those of nnUNet_results, of a dataset and of a model
_MOST_TEXT_BYTES = 16 * 2**20
REMEDY = "Get the model again from a source that you trust"


class NNUNetFiles(Protocol):
    """Files by their names, which are relative and have forward slashes."""

    @property
    def path(self) -> Path:
        """Path to the folder or file."""
        ...

    def names(self) -> list[str]:
        """Return the names of all files that may belong to models."""
        ...

    def read(self, name: str) -> bytes:
        """Return the content of a small file. Raises `InputError` where it is too long or cannot be read."""
        ...

    def checkpoint(self, name: str) -> AbstractContextManager[Path]:
        """Return a context with the path to a checkpoint."""
        ...


@dataclass(frozen=True)
class ResultsFolder:
    """A folder of nnU-Net's."""

    path: Path

    def names(self) -> list[str]:
        """Return the names of the files of models, without following links to folders."""
        found = []
        for folder, folders, files in os.walk(self.path):
            place = Path(folder).relative_to(self.path)
            if len(place.parts) >= _DEEPEST:
                folders.clear()
            found += [(place / file).as_posix() for file in files if _is_of_interest(file)]
        return sorted(found)

    def read(self, name: str) -> bytes:
        """Return the content of a small file."""
        path = self._regular(name)
        try:
            with path.open("rb") as file:
                return _limited(file.read(_MOST_TEXT_BYTES + 1), str(path))
        except OSError as error:
            raise InputError(fault_of(error, str(path), f"the file cannot be read ({error})", REMEDY)) from error

    @contextmanager
    def checkpoint(self, name: str) -> Iterator[Path]:
        """Yield the path to a checkpoint."""
        yield self._regular(name)

    def _regular(self, name: str) -> Path:
        """Return the path to a file. Raises `InputError` where it is a pipe, which would never end, or a link to nothing."""
        path = self.path / name
        if not path.is_file():
            raise InputError(Fault(str(path), "not a regular file, or a link to no file", REMEDY))
        return path


@dataclass(frozen=True)
class ExportedArchive:
    """A ZIP file of nnU-Net's."""

    path: Path

    def names(self) -> list[str]:
        """Return the names of the files of models.

        Raises:
            InputError: the file is not a ZIP file, is damaged, or has entries that no export of nnU-Net has.
        """
        with opened_archive(self.path, REMEDY) as archive:
            entries = checked_entries(self.path, archive, _MOST_TEXT_BYTES, REMEDY)
            names = [name for name in map(_name, entries) if _is_of_interest(PurePosixPath(name).name)]
        repeated = sorted({name for name in names if names.count(name) > 1})
        raise_faults(Fault(f"{self.path}: {name!r}", "the name occurs more than once", REMEDY) for name in repeated)
        return sorted(names)

    def read(self, name: str) -> bytes:
        """Return the content of a small file."""
        with self._opened(name) as file:
            return _limited(file.read(_MOST_TEXT_BYTES + 1), f"{self.path}: {name}")

    @contextmanager
    def checkpoint(self, name: str) -> Iterator[Path]:
        """Yield the path to a copy of a checkpoint, which is removed afterwards."""
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "checkpoint.pth"
            with self._opened(name) as file, copy.open("wb") as target:
                while part := file.read(2**20):
                    target.write(part)
            yield copy

    @contextmanager
    def _opened(self, name: str) -> Iterator[IO[bytes]]:
        with opened_archive(self.path, REMEDY) as archive:
            entry = next(entry for entry in archive.infolist() if _name(entry) == name)
            with archive.open(entry) as file:
                yield file


def _name(entry: zipfile.ZipInfo) -> str:
    """Return the name of an entry with forward slashes; some programs for Windows write backslashes."""
    return entry.filename.replace("\\", "/")


def _limited(content: bytes, where: str) -> bytes:
    if len(content) > _MOST_TEXT_BYTES:
        raise InputError(Fault(where, f"the file has more than {_MOST_TEXT_BYTES} bytes", REMEDY))
    return content


def _is_of_interest(file: str) -> bool:
    return file in (PLANS, DATASET, "postprocessing.json") or (file.startswith("checkpoint_") and file.endswith(".pth"))


@dataclass(frozen=True)
class NNUNetModel:
    """Files of one trained configuration.

    Attributes:
        source: where the files are.
        place: folder of the model in the source, "" for the source itself.
        checkpoints: names of the checkpoints, by fold and kind.
        started: folds with a checkpoint of any kind, also of a training that goes on.
        postprocessing: name of the description of its postprocessing, or None.
    """

    source: NNUNetFiles
    place: str
    checkpoints: Mapping[tuple[str, str], str]
    started: tuple[str, ...]
    postprocessing: str | None

    @property
    def where(self) -> str:
        """Name of the model in messages."""
        return f"{self.source.path}{f': {self.place}' if self.place else ''}"

    def postprocessed(self, folds: Sequence[str]) -> tuple[str, ...]:
        """Return those of the folds for which the postprocessing was chosen; all, where its folder names none of them."""
        match = _POSTPROCESSING.search(self.postprocessing or "")
        named = match["folds"].split("_") if match else []
        return tuple(fold for fold in folds if fold in named) or tuple(folds)

    def json(self, file: str) -> dict[str, Any]:
        """Return the content of one of its JSON files.

        Raises:
            InputError: the file is not a JSON object.
        """
        name = f"{self.place}/{file}".lstrip("/")
        try:
            content = parse_json(self.source.read(name))
        except InputError:
            raise
        except ValueError as error:
            raise InputError(Fault(f"{self.where}: {file}", f"not a JSON file ({error})", REMEDY)) from error
        if not isinstance(content, dict):
            raise InputError(Fault(f"{self.where}: {file}", "not a JSON object", REMEDY))
        return content


def is_nnunet(path: Path) -> bool:
    """Return whether a path is a folder or a ZIP file with models of nnU-Net."""
    if path.is_dir():
        return not ModelFolder(path).plan.is_file()
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(PurePosixPath(_name(entry)).name == PLANS for entry in archive.infolist())
    except (zipfile.BadZipFile, *DAMAGE):
        return False


def find_nnunet_models(path: Path) -> list[NNUNetModel]:
    """Return the trained models in a folder or ZIP file of nnU-Net's, by place.

    Raises:
        InputError: there are none, or the file cannot be used.
    """
    source: NNUNetFiles = ResultsFolder(path) if path.is_dir() else ExportedArchive(path)
    names = source.names()
    places = [_parent(name) for name in names if PurePosixPath(name).name == PLANS]
    found = [_model(source, place, names) for place in places]
    models = [model for model in found if model.checkpoints]
    if not models:
        wanted = " or ".join(f"fold_*/checkpoint_{kind}.pth" for kind in KINDS)
        problem = f"there is no trained model of nnU-Net 2: no folder with {PLANS}, {DATASET} and {wanted}"
        remedy = "Give a folder such as nnUNetTrainer__nnUNetPlans__3d_fullres, or the ZIP file of nnUNetv2_export_model_to_zip"
        raise InputError(Fault(str(path), problem, remedy))
    raise_faults(
        Fault(model.where, f"{DATASET} is missing", REMEDY)
        for model in models
        if f"{model.place}/{DATASET}".lstrip("/") not in names
    )
    return models


def _model(source: NNUNetFiles, place: str, names: list[str]) -> NNUNetModel:
    prefix = f"{place}/" if place else ""
    own = {name.removeprefix(prefix): name for name in names if name.startswith(prefix)}
    matches = {match: name for short, name in own.items() if (match := _CHECKPOINT.fullmatch(short))}
    described = sorted((name for short, name in own.items() if _POSTPROCESSING.fullmatch(short)), key=len)
    checkpoints = {(match["fold"], match["kind"]): name for match, name in matches.items()}
    started = sorted({match["fold"] for short in own if (match := _STARTED.fullmatch(short))})
    return NNUNetModel(source, place, checkpoints, tuple(started), described[-1] if described else None)


def _parent(name: str) -> str:
    parent = PurePosixPath(name).parent.as_posix()
    return "" if parent == "." else parent
