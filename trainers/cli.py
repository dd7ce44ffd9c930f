"""The command se_train."""

import argparse
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from configs.cli import Bar, add_device, add_image_format, fill, keep_log, parse_settings, run

if TYPE_CHECKING:
    from configs.training import TrainingConfig


_PARTS = ("network", "loss", "augmentation", "trainer")
_SETTINGS = (
    "epochs",
    "iterations",
    "learning_rate",
    "batch_size",
    "seed",
    "workers",
    "init_weights",
    "freeze",
    "deterministic",
    "loggers",
)
TrainingMode = Literal["new", "resume", "restart", "validate"]


@dataclass(frozen=True)
class Target:
    """The fold to train."""

    dataset: str  # folder of the dataset, or its name under WORK
    work: Path  # folder of plans and models
    network: str  # name of the network in the plan
    configuration: str = "3d_fullres"  # name of the configuration in the plan
    fold: int | str = 0  # number of the fold, or `all`
    tag: str | None = None  # suffix of the model's name


@dataclass(frozen=True)
class TrainCommand:
    """What se_train is asked to do."""

    target: Target  # the fold to train
    settings: Mapping[str, object]  # settings that override the preset
    preset: str | None = None  # name or file of settings; None: `default`, or what a training that goes on has recorded
    mode: TrainingMode = "new"  # what to do with a fold that was trained before; `new` refuses it
    group_by: str | None = None  # CSV file of cases and groups, by which folds are made
    preview: bool = False  # draw patches before and after augmentation
    device: str | None = None  # name of the device; None takes the best available one
    num_gpus: int = 1  # number of processes that share each batch
    quiet: bool = False  # show warnings and errors only


def main() -> int:
    """Run se_train and return its exit code."""
    return run(_parser(), _read, _train)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="se_train",
        description="Train one fold of a planned network and validate it on whole volumes. "
        "Ctrl-C or SIGTERM saves the state after the current step; --resume continues from there.",
    )
    parser.add_argument("dataset", metavar="DATASET", help="folder of the dataset, or its name under WORK")
    parser.add_argument("--work", type=Path, default=Path("se_work"), help="folder of plans and models (default: %(default)s)")
    parser.add_argument("--network", required=True, help="network of the plan: se, baseline or another name")
    parser.add_argument("--configuration", default="3d_fullres", help="configuration of the plan (default: %(default)s)")
    parser.add_argument("--fold", type=_fold, default=0, help="number of the fold, from 0, or all (default: %(default)s)")
    parser.add_argument("--tag", help="suffix of the model's name that distinguishes trainings with other settings")
    settings = parser.add_argument_group("settings", "all settings are recorded with the model")
    settings.add_argument("--preset", help="default, quick, adamw, finetune, or a JSON file of settings (default: default)")
    settings.add_argument("--epochs", type=int, help="number of epochs")
    settings.add_argument("--iterations", type=int, help="training steps per epoch")
    settings.add_argument("--lr", type=float, dest="learning_rate", help="initial learning rate")
    settings.add_argument("--batch-size", type=int, help="patches per training step")
    settings.add_argument("--seed", type=int, help="random seed")
    settings.add_argument("--workers", "--jobs", type=int, help="processes that load data; 0 loads in the main process")
    settings.add_argument(
        "--init-weights", metavar="MODEL", help="model folder or nnU-Net checkpoint whose matching weights are the initial ones"
    )
    settings.add_argument("--freeze", nargs="+", metavar="PART", help="parts whose weights stay: encoder, decoder, heads")
    settings.add_argument("--deterministic", action="store_true", default=None, help="reproducible results on GPUs too")
    settings.add_argument("--logger", dest="loggers", nargs="+", help="loggers besides log.csv: tensorboard, mlflow, wandb")
    settings.add_argument(
        "--set", action="extend", nargs="+", default=[], metavar="KEY=VALUE", help="any other setting, such as momentum=0.95"
    )
    parts = parser.add_argument_group("custom parts", "named MODULE:CLASS and imported (see docs/how_to/extend.md)")
    for part in _PARTS:
        parts.add_argument(f"--{part}-class", metavar="MODULE:CLASS", help=f"custom {part} class")
    modes = parser.add_mutually_exclusive_group()
    for option, mode, text in (
        ("--resume", "resume", "continue from the last checkpoint, with its settings"),
        ("--restart", "restart", "delete what this fold has and train it again"),
        ("--validate-only", "validate", "validate the final weights again"),
    ):
        modes.add_argument(option, dest="mode", action="store_const", const=mode, default="new", help=text)
    parser.add_argument("--group-by", metavar="FILE", help="CSV file of case,group: cases of a group stay in one fold")
    parser.add_argument("--preview", action="store_true", help="draw patches before and after augmentation (preview.png)")
    add_image_format(parser)
    add_device(parser.add_argument)
    parser.add_argument("--num-gpus", type=int, default=1, help="processes that share each batch (default: %(default)s)")
    return parser


def _fold(text: str) -> int | str:
    if text == "all":
        return text
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a number or all, not {text}")
    return int(text)


def _read(given: argparse.Namespace) -> TrainCommand:
    from preprocessing.formats.registry import use_format

    use_format(given.image_format)
    names = (*_SETTINGS, *(f"{part}_class" for part in _PARTS))
    settings = {name: getattr(given, name) for name in names if getattr(given, name) is not None}
    return fill(TrainCommand, given, target=fill(Target, given), settings=settings | parse_settings(given.set))


def _train(command: TrainCommand) -> int:
    from configs.folders import find_dataset
    from trainers.interruption import TrainingInterruptedError
    from trainers.job import resolve_config

    if command.num_gpus > 1 and "LOCAL_RANK" not in os.environ:
        return _start_processes(command)
    sys.path.insert(0, "")  # custom parts may lie in the working directory, as with `python -m`
    target, is_first = command.target, os.environ.get("RANK", "0") == "0"
    dataset = find_dataset(target.dataset, target.work)
    model = dataset.model(target.configuration, target.network, target.tag)
    config = resolve_config(model, command.preset, command.settings, command.mode in ("resume", "validate"))
    if is_first:
        keep_log(model.fold(target.fold).path, plan=[dataset.plan], seeds=f"{config.seed}")
    try:
        with _joined_processes(command) as joined:
            folder = _run(joined, config)
    except TrainingInterruptedError as interruption:
        print(f"se_train: {interruption}", file=sys.stderr)
        return 128 + interruption.signal_number  # the shell's convention
    if is_first:
        print(folder)
    return 0


def _run(command: TrainCommand, config: "TrainingConfig") -> Path:
    from se_unet.cpu.allocator import keep_freed_memory
    from trainers.run import train

    keep_freed_memory()
    target = command.target
    return train(
        target.dataset,
        target.work,
        target.network,
        target.configuration,
        target.fold,
        config,
        tag=target.tag,
        resume=command.mode == "resume",
        restart=command.mode == "restart",
        validate_only=command.mode == "validate",
        preview=command.preview,
        group_by=command.group_by,
        device=command.device,
        progress=Bar(command.quiet),
        resume_hint=f"Go on with: {_resume_command(sys.argv[1:])}",
    )


def _start_processes(command: TrainCommand) -> int:
    """Run this command once per GPU with torchrun, which passes signals on and ends all processes when one fails."""
    from inference.device import check_processes

    check_processes(command.num_gpus, command.device)
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={command.num_gpus}"]
    line = [*program, "-m", "trainers.cli", *sys.argv[1:]]
    os.execv(sys.executable, line)


@contextmanager
def _joined_processes(command: TrainCommand) -> Iterator[TrainCommand]:
    """Join the processes that torchrun started, if it started this one, and yield the command as this process runs it."""
    if "LOCAL_RANK" not in os.environ:
        yield command
        return
    import torch
    from torch import distributed

    local, on_gpu = int(os.environ["LOCAL_RANK"]), torch.cuda.is_available() and command.device != "cpu"
    if on_gpu:
        torch.cuda.set_device(local)
    is_silent = int(os.environ["RANK"]) > 0  # the first process reports for all
    if is_silent:
        logging.getLogger("trainers").setLevel(logging.WARNING)
    # The first process validates whole volumes while the others wait; torchrun ends all of them if one fails.
    distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=timedelta(days=1))
    try:
        yield replace(command, device=f"cuda:{local}" if on_gpu else "cpu", quiet=command.quiet or is_silent)
    finally:
        distributed.destroy_process_group()


def _resume_command(arguments: list[str]) -> str:
    """Return the same command line with --resume."""
    import shlex

    kept = [argument for argument in arguments if argument not in ("--restart", "--resume")]
    return shlex.join(["se_train", *kept, "--resume"])


if __name__ == "__main__":
    sys.exit(main())
