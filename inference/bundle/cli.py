"""The command se_bundle."""

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path

from configs.cli import Bar, add_verbosity, fill, keep_log, run

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BundleExport:
    """What `se_bundle export` is asked to do."""

    model: Path  # model folder
    output: Path  # bundle to write
    folds: tuple[str, ...] | None = None  # names of the folds to export; None takes every trained fold
    checkpoint: str = "final"  # `final`, `best` or `all`
    licence: str | None = None  # licence of the model, for its card
    equivariance: bool = False  # measure the network's scale equivariance first
    quiet: bool = False  # show warnings and errors only


@dataclass(frozen=True)
class BundleImport:
    """What `se_bundle import` is asked to do."""

    bundle: Path  # bundle to import, or models of nnU-Net in a folder or ZIP file
    output: Path  # new model folder, or folder of several
    trust_trainer: bool = False  # accept trainers of nnU-Net models by names that are not known
    quiet: bool = False  # show warnings and errors only


@dataclass(frozen=True)
class BundleOnnx:
    """What `se_bundle onnx` is asked to do."""

    model: Path  # model folder
    output: Path  # ONNX file to write
    fold: str | None = None  # name of the fold; None takes the first trained fold
    checkpoint: str = "final"  # `final` or `best`
    quiet: bool = False  # show warnings and errors only


def main() -> int:
    """Run se_bundle and return its exit code."""
    return run(_parser(), _read, _bundle)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="se_bundle", description="Share a trained model as one file, or export its network as ONNX."
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="export|import|onnx")
    export = actions.add_parser("export", help="write a model folder as one file, with checksums and a model card")
    export.add_argument("model", type=Path, help="folder of a trained model")
    export.add_argument("-o", "--output", type=Path, help="output file; default: name of the model folder with .zip")
    export.add_argument("--folds", nargs="+", help="folds to export, such as 0 1, all or every; default: every trained fold")
    export.add_argument("--checkpoint", choices=("final", "best", "all"), default="final", help="weights; default: %(default)s")
    export.add_argument("--licence", help="licence of the model for its card, such as CC-BY-4.0")
    export.add_argument("--equivariance", action="store_true", help="measure the network's scale equivariance for the card first")
    bring = actions.add_parser("import", help="check such a file, or a model of nnU-Net, and make a new model folder of it")
    bring.add_argument(
        "bundle", type=Path, help="file to import; or results of nnU-Net 2, as a folder or the ZIP file of its export"
    )
    bring.add_argument("-o", "--output", type=Path, help="new model folder; default: name of the file without .zip")
    bring.add_argument(
        "--trust-trainer",
        action="store_true",
        help="accept an unknown trainer of nnU-Net, if you know that it changes neither network nor preparation of images",
    )
    onnx = actions.add_parser("onnx", help="write one fold's network as ONNX and compare it with PyTorch")
    onnx.add_argument("model", type=Path, help="model folder")
    onnx.add_argument("-o", "--output", type=Path, required=True, help="output file")
    onnx.add_argument("--fold", help="fold to export; default: the first trained fold")
    onnx.add_argument("--checkpoint", choices=("final", "best"), default="final", help="weights; default: %(default)s")
    for action in (export, bring, onnx):
        add_verbosity(action, default=argparse.SUPPRESS)
    return parser


def _read(given: argparse.Namespace) -> BundleExport | BundleImport | BundleOnnx:
    if given.action == "export":
        from inference.model import chosen_folds

        output = given.output or Path(f"{given.model.resolve().name}.zip")
        return fill(BundleExport, given, output=output, folds=chosen_folds(given.folds, [given.model]))
    if given.action == "import":
        name = given.bundle.name.removesuffix(".zip")
        return fill(BundleImport, given, output=given.output or Path(name if name != given.bundle.name else f"{name}_model"))
    return fill(BundleOnnx, given)


def _bundle(command: BundleExport | BundleImport | BundleOnnx) -> None:
    if isinstance(command, BundleExport):
        _export(command)
    elif isinstance(command, BundleImport):
        _import(command)
    else:
        _onnx(command)


def _export(command: BundleExport) -> None:
    from configs.run_log import digests
    from inference.bundle.export import export_bundle

    _keep_log_of_model(command.model)
    if command.equivariance:
        _measure_equivariance(command)
    manifest = export_bundle(
        command.model, command.output, folds=command.folds, checkpoint=command.checkpoint, licence=command.licence
    )
    logger.debug("written: %s", digests([command.output]))
    if not command.quiet:
        print(f"{command.output}: {len(manifest.weights())} weights files, {command.output.stat().st_size / 1e6:.1f} MB")


def _measure_equivariance(command: BundleExport) -> None:
    from configs.errors import Fault, InputError
    from configs.folders import CHECKPOINTS, ModelFolder
    from configs.plan import ModelPlan
    from inference.evaluation.equivariance import equivariance_curve, obstacle

    reason = obstacle(ModelPlan.read(ModelFolder(command.model).plan))
    if reason is not None:
        raise InputError(Fault("--equivariance", reason.rstrip("."), "Leave the option out"))
    checkpoint = command.checkpoint if command.checkpoint in CHECKPOINTS else CHECKPOINTS[0]
    equivariance_curve(command.model, folds=command.folds, checkpoint=checkpoint)


def _import(command: BundleImport) -> None:
    from inference.bundle.contents import SELECTION
    from inference.bundle.install import import_bundle
    from inference.bundle.nnunet.source import is_nnunet

    if not command.output.exists():  # an existing folder is refused and left as it is
        keep_log(command.output, bundle=[command.bundle] if command.bundle.is_file() else [])
    if is_nnunet(command.bundle):
        _import_nnunet(command)
        return
    manifest = import_bundle(command.bundle, command.output)
    if not command.quiet:
        card = command.output / "model_card.md"
        print(f"{command.output}: {len(manifest.weights())} weights files, checked. Read {card} before use")
        if SELECTION in manifest.files:
            print(f"  It has postprocessing: predict with --selection {command.output / SELECTION}")


def _import_nnunet(command: BundleImport) -> None:
    from configs.errors import counted
    from inference.bundle.nnunet.install import import_nnunet

    made = import_nnunet(command.bundle, command.output, command.trust_trainer, Bar(command.quiet))
    for one in () if command.quiet else made:
        print(f"{one.folder}: {one.plan.configuration_name} of nnU-Net, {counted(len(one.folds), 'fold')}")
        if one.selection is not None:
            print(f"  nnU-Net chose postprocessing for it: predict with --selection {one.selection}")


def _onnx(command: BundleOnnx) -> None:
    from configs.run_log import digests
    from inference.bundle.onnx import export_network

    _keep_log_of_model(command.model)
    report = export_network(command.model, command.output, command.fold, command.checkpoint)
    logger.debug("written: %s", digests([command.output]))
    if not command.quiet:
        shape = " x ".join(map(str, report.shape))
        agreement = f"differs from PyTorch by at most {report.difference:.2g} in scores of up to {report.largest:.2g}"
        print(f"{command.output}: fold {report.fold}, any number of patches of {shape}; {agreement}")


def _keep_log_of_model(model: Path) -> None:
    """Keep the log in the model folder, not beside the output, which is made to be shared."""
    from configs.folders import ModelFolder

    plan = ModelFolder(model).plan
    if plan.is_file():
        keep_log(model, plan=[plan])
