"""The command se_train."""

import argparse
import sys

from configs.cli import Bar, run


def main() -> int:
    """Train one fold of a network."""
    return run(_train, _parser())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="se_train",
        description="Train one fold of a planned network and validate it on whole volumes. "
        "Ctrl-C or SIGTERM saves the state after the current step; --resume goes on from there.",
    )
    parser.add_argument("dataset", metavar="DATASET", help="the dataset's folder, or its name under WORK")
    parser.add_argument("--work", default="se_work", help="where plans and models are kept (default: %(default)s)")
    parser.add_argument("--network", required=True, help="se, baseline, or another network of the plan")
    parser.add_argument("--configuration", default="3d_fullres", help="of the plan (default: %(default)s)")
    parser.add_argument("--fold", type=_fold, default=0, help="0, 1, ... or all (default: %(default)s)")
    parser.add_argument("--tag", help="added to the model's name, to tell trainings with other settings apart")
    settings = parser.add_argument_group("settings", "all of them are kept in the model's training.json")
    settings.add_argument("--preset", help="default, quick, or a JSON file of settings (default: default)")
    settings.add_argument("--epochs", type=int)
    settings.add_argument("--iterations", type=int, help="steps of an epoch")
    settings.add_argument("--lr", type=float, dest="learning_rate", help="initial learning rate")
    settings.add_argument("--batch-size", type=int)
    settings.add_argument("--seed", type=int)
    settings.add_argument("--workers", "--jobs", type=int, help="processes that load data; 0 loads in the main process")
    settings.add_argument(
        "--set", action="extend", nargs="+", default=[], metavar="KEY=VALUE", help="any other setting, such as momentum=0.95"
    )
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="go on from the last checkpoint, with its settings")
    existing.add_argument("--restart", action="store_true", help="delete what this fold has and train anew")
    existing.add_argument("--validate-only", action="store_true", help="score the final weights again")
    parser.add_argument("--device", help="such as cuda:1 or cpu (default: the best there is)")
    return parser


def _fold(text: str) -> int | str:
    if text == "all":
        return text
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a number or all, not {text}")
    return int(text)


def _train(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from trainers.folders import find_dataset
    from trainers.interruption import TrainingInterruptedError
    from trainers.run import train
    from trainers.settings import resolve_config

    work = Path(arguments.work)
    model = find_dataset(arguments.dataset, work).model(arguments.configuration, arguments.network, arguments.tag)
    goes_on = arguments.resume or arguments.validate_only
    config = resolve_config(model, arguments.preset, _overrides(arguments), goes_on)
    try:
        folder = train(
            arguments.dataset,
            work,
            arguments.network,
            arguments.configuration,
            arguments.fold,
            config,
            tag=arguments.tag,
            resume=arguments.resume,
            restart=arguments.restart,
            validate_only=arguments.validate_only,
            device=arguments.device,
            progress=Bar(arguments.quiet),
            resume_hint=f"Go on with: {_resume_command(sys.argv[1:])}",
        )
    except TrainingInterruptedError as interruption:
        print(f"se_train: {interruption}", file=sys.stderr)
        return 128 + interruption.signal_number  # the shell's convention
    print(folder)
    return 0


def _overrides(arguments: argparse.Namespace) -> dict[str, object]:
    """Settings given by options, then those given by --set. Raises `InputError` for what is no KEY=VALUE."""
    import json

    from configs.errors import Fault, raise_faults

    raise_faults(
        Fault(f"--set {text}", "it is no KEY=VALUE", "Write for example --set momentum=0.95")
        for text in arguments.set
        if "=" not in text
    )
    names = ("epochs", "iterations", "learning_rate", "batch_size", "seed", "workers")
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    for text in arguments.set:
        key, _, value = text.partition("=")
        try:
            given[key.strip()] = json.loads(value)
        except json.JSONDecodeError:
            given[key.strip()] = value
    return given


def _resume_command(arguments: list[str]) -> str:
    """The command line that goes on: the same, with --resume."""
    import shlex

    kept = [argument for argument in arguments if argument not in ("--restart", "--resume")]
    return shlex.join(["se_train", *kept, "--resume"])
