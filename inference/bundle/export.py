"""Export a model folder as one file."""

import hashlib
import logging
import zipfile
from collections.abc import Sequence
from pathlib import Path

from configs.errors import Fault, InputError, raise_faults
from configs.files import read_text, replacing, sha256_of
from configs.folders import CALIBRATION, CHECKPOINTS, DATASET, EQUIVARIANCE, PLAN, SETTINGS, weights_in_model
from configs.outputs import file_faults
from configs.plan import ModelPlan
from inference.bundle.card import model_card
from inference.bundle.contents import CARD, MANIFEST, SELECTION, BundledFile, Manifest
from inference.bundle.verify import verify_bundle
from inference.evaluation.equivariance import read_curve
from inference.model import find_weights
from inference.prediction.selection import ALONE, Selection

_logger = logging.getLogger(__name__)
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # fixed, so that equal models give equal bundles
_MODE = 0o100644 << 16


def export_bundle(
    model: str | Path,
    output: str | Path,
    *,
    folds: Sequence[int | str] | None = None,
    checkpoint: str = "final",
    licence: str | None = None,
) -> Manifest:
    """Write a bundle atomically: plan, settings, labels, calibration, postprocessing, weights, model card and manifest.

    A `model_card.md` in the model folder is included unchanged unless a licence is given; otherwise a card is generated. Validation
    segmentations and case names are not included.

    Args:
        model: model folder with plan.json and fold_*.
        output: path to the bundle.
        folds: folds to include; None takes all that have weights.
        checkpoint: `final`, `best`, or `all` for both if present.
        licence: licence of the model, for the card.

    Raises:
        InputError: the folder is missing, or its content is missing or unusable.
    """
    model = Path(model)
    raise_faults(file_faults(Path(output)))
    plan = ModelPlan.read(model / PLAN)
    weights = _chosen_weights(model, folds, checkpoint)
    given = model / CARD
    if given.is_file() and licence is None:
        card = read_text(given).encode()
    else:
        card = model_card(model, plan, [fold for fold, _ in weights], licence).encode()
    texts = {
        PLAN: _text(plan.whole.model_dump_json(indent=2)),
        DATASET: _text(plan.dataset.model_dump_json(indent=2)),
        CARD: card,
    }
    texts |= {name: (model / name).read_bytes() for name in (SETTINGS, CALIBRATION, EQUIVARIANCE) if (model / name).is_file()}
    if EQUIVARIANCE in texts and read_curve(model / EQUIVARIANCE) is None:
        del texts[EQUIVARIANCE]
        _logger.warning(
            "%s is damaged or of another version and is left out; --equivariance measures it again", model / EQUIVARIANCE
        )
    texts |= _selection(model, [fold for fold, _ in weights])
    with replacing(Path(output)) as temporary:
        manifest = _write(temporary, texts, {weights_in_model(*key): path for key, path in weights.items()})
        verify_bundle(temporary)
    return manifest


def _selection(model: Path, folds: Sequence[str]) -> dict[str, bytes]:
    """Return the file with the postprocessing of a model that has one, for the folds that are exported."""
    if not (model / SELECTION).is_file():
        return {}
    selection = Selection.read(model / SELECTION)
    kept = tuple(fold for fold in selection.folds if fold in folds)
    if selection.models != (ALONE,) or not kept:
        _logger.warning("%s is for other models or folds and is left out", model / SELECTION)
        return {}
    return {SELECTION: _text(selection.model_copy(update={"folds": kept}).model_dump_json(indent=2))}


def _chosen_weights(model: Path, folds: Sequence[int | str] | None, checkpoint: str) -> dict[tuple[str, str], Path]:
    """Return the weights files by fold and checkpoint."""
    if checkpoint != "all":
        return {(fold, checkpoint): path for fold, path in find_weights(model, folds, checkpoint).items()}
    found: dict[tuple[str, str], Path] = {}
    for kind in CHECKPOINTS:
        try:
            found |= {(fold, kind): path for fold, path in find_weights(model, folds, kind).items()}
        except InputError:  # not every fold has this checkpoint
            continue
    if not found:
        raise InputError(Fault(str(model), "the chosen folds have no weights", "Train a fold first"))
    return found


def _write(path: Path, texts: dict[str, bytes], weights: dict[str, Path]) -> Manifest:
    files: dict[str, BundledFile] = {}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(texts.items()):
            archive.writestr(_entry(name), content)
            files[name] = BundledFile(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        for name, source in sorted(weights.items()):
            files[name] = _copy(archive, name, source)
        manifest = Manifest(files=files)
        archive.writestr(_entry(MANIFEST), _text(manifest.model_dump_json(indent=2)))
    return manifest


def _copy(archive: zipfile.ZipFile, name: str, source: Path) -> BundledFile:
    entry = _entry(name)
    entry.file_size = source.stat().st_size  # enables the ZIP64 format for large files
    with source.open("rb") as original, archive.open(entry, "w") as copy:
        digest = sha256_of(original, copy)
        return BundledFile(bytes=original.tell(), sha256=digest)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EARLIEST)
    entry.external_attr = _MODE
    entry.create_system = 3  # Unix, on every system
    return entry


def _text(text: str) -> bytes:
    return f"{text}\n".encode()
