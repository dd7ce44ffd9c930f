"""The command se_bundle."""

import argparse
import logging
from pathlib import Path

from configs.cli import add_verbosity, keep_log, run

logger = logging.getLogger(__name__)


def main() -> int:
    """Run se_bundle. Returns the exit code."""
    return run(_bundle, _parser())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="se_bundle", description="A trained model as one file to share, and its network as ONNX."
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="export|import|onnx")
    export = actions.add_parser("export", help="write a model folder as one file, with checksums and a model card")
    export.add_argument("model", type=Path, help="a model folder, with plan.json and fold_*")
    export.add_argument("-o", "--output", type=Path, help="file to write; default: the folder's name with .zip")
    export.add_argument("--folds", nargs="+", default=["all"], help="folds to take, such as 0 1; default: all that are trained")
    export.add_argument("--checkpoint", choices=("final", "best", "all"), default="final", help="weights; default: %(default)s")
    export.add_argument("--licence", help="of the model, for its card, such as CC-BY-4.0")
    export.add_argument("--equivariance", action="store_true", help="measure the network's scale equivariance for the card first")
    bring = actions.add_parser("import", help="check such a file and unpack it into a new model folder")
    bring.add_argument("bundle", type=Path, help="file to import")
    bring.add_argument("-o", "--output", type=Path, help="folder to make; default: the file's name without .zip")
    onnx = actions.add_parser("onnx", help="write one fold's network as ONNX, compared with PyTorch")
    onnx.add_argument("model", type=Path, help="a model folder")
    onnx.add_argument("-o", "--output", type=Path, required=True, help="file to write")
    onnx.add_argument("--fold", help="default: the first that is trained")
    onnx.add_argument("--checkpoint", choices=("final", "best"), default="final", help="weights; default: %(default)s")
    for action in (export, bring, onnx):
        add_verbosity(action, default=argparse.SUPPRESS)
    return parser


def _bundle(arguments: argparse.Namespace) -> None:
    {"export": _export, "import": _import, "onnx": _onnx}[arguments.action](arguments)


def _export(arguments: argparse.Namespace) -> None:
    from configs.run_log import digests
    from inference.bundle.contents import EQUIVARIANCE
    from inference.bundle.export import export_bundle
    from inference.evaluation.equivariance import measure_equivariance
    from inference.model import CHECKPOINTS, load_model

    _keep_log_of_model(arguments.model)
    output = arguments.output or Path(f"{arguments.model.resolve().name}.zip")
    folds = None if arguments.folds == ["all"] else arguments.folds
    if arguments.equivariance:
        checkpoint = arguments.checkpoint if arguments.checkpoint in CHECKPOINTS else CHECKPOINTS[0]
        measure_equivariance(load_model(arguments.model, folds, checkpoint)).write(arguments.model / EQUIVARIANCE)
    options = {"folds": folds, "checkpoint": arguments.checkpoint, "licence": arguments.licence}
    manifest = export_bundle(arguments.model, output, **options)
    logger.debug("written: %s", digests([output]))
    if not arguments.quiet:
        print(f"{output}: {len(manifest.weights())} weights files, {output.stat().st_size / 1e6:.1f} MB")


def _import(arguments: argparse.Namespace) -> None:
    from configs.run_log import UNSEEDED, digests
    from inference.bundle.install import import_bundle

    name = arguments.bundle.name.removesuffix(".zip")
    folder = arguments.output or Path(name if name != arguments.bundle.name else f"{name}_model")
    if not folder.exists():  # one that is there is refused, and left as it is
        keep_log(folder, bundle=digests([arguments.bundle]), seeds=UNSEEDED)
    manifest = import_bundle(arguments.bundle, folder)
    if not arguments.quiet:
        print(f"{folder}: {len(manifest.weights())} weights files, checked. Read {folder / 'model_card.md'} before use")


def _onnx(arguments: argparse.Namespace) -> None:
    from configs.run_log import digests
    from inference.bundle.onnx import export_network

    _keep_log_of_model(arguments.model)
    report = export_network(arguments.model, arguments.output, arguments.fold, arguments.checkpoint)
    logger.debug("written: %s", digests([arguments.output]))
    if not arguments.quiet:
        shape = " x ".join(map(str, report.shape))
        agreement = f"differs from PyTorch by at most {report.difference:.2g} in scores of up to {report.largest:.2g}"
        print(f"{arguments.output}: fold {report.fold}, any number of patches of {shape}; {agreement}")


def _keep_log_of_model(model: Path) -> None:
    """Beside the model and not beside what is written, which is there to be given away."""
    from configs.run_log import UNSEEDED, digests

    plan = model / "plan.json"
    if plan.is_file():
        keep_log(model, plan=digests([plan]), seeds=UNSEEDED)
