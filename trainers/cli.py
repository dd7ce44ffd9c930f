"""The command se_train."""

import argparse
import logging
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from configs.cli import Bar, keep_log, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from configs.training import TrainingConfig


_PARTS = ("network", "loss", "augmentation", "trainer")


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
        "--init-weights", metavar="MODEL", help="start from a model of ours or a checkpoint of nnU-Net, as far as it fits"
    )
    settings.add_argument("--deterministic", action="store_true", default=None, help="the same numbers each time, on GPUs too")
    settings.add_argument("--logger", dest="loggers", nargs="+", help="tensorboard, mlflow, wandb: besides log.csv")
    settings.add_argument(
        "--set", action="extend", nargs="+", default=[], metavar="KEY=VALUE", help="any other setting, such as momentum=0.95"
    )
    parts = parser.add_argument_group("parts of your own", "named MODULE:CLASS; the module is imported (see docs/training.md)")
    for part in _PARTS:
        parts.add_argument(f"--{part}-class", metavar="MODULE:CLASS")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="go on from the last checkpoint, with its settings")
    existing.add_argument("--restart", action="store_true", help="delete what this fold has and train anew")
    existing.add_argument("--validate-only", action="store_true", help="score the final weights again")
    parser.add_argument("--group-by", metavar="FILE", help="CSV of case,group: cases of a group stay in one fold")
    parser.add_argument("--preview", action="store_true", help="draw patches before and after augmentation (preview.png)")
    parser.add_argument("--device", help="such as cuda:1 or cpu (default: the best there is)")
    parser.add_argument("--num-gpus", type=int, default=1, help="processes that share each batch (default: %(default)s)")
    return parser


def _fold(text: str) -> int | str:
    if text == "all":
        return text
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a number or all, not {text}")
    return int(text)


def _train(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from configs.folders import find_dataset
    from configs.run_log import digests
    from trainers.interruption import TrainingInterruptedError
    from trainers.job import resolve_config

    if arguments.num_gpus > 1 and "LOCAL_RANK" not in os.environ:
        return _start_processes(arguments)
    sys.path.insert(0, "")  # parts of your own may lie in the working directory, as with `python -m`
    work = Path(arguments.work)
    dataset = find_dataset(arguments.dataset, work)
    model = dataset.model(arguments.configuration, arguments.network, arguments.tag)
    goes_on = arguments.resume or arguments.validate_only
    config = resolve_config(model, arguments.preset, _overrides(arguments), goes_on)
    if os.environ.get("RANK", "0") == "0":
        keep_log(model.fold(arguments.fold).path, plan=digests([dataset.plan]), seeds=f"{config.seed}")
    try:
        with _processes(arguments) as device:
            folder = _run(arguments, config, device)
    except TrainingInterruptedError as interruption:
        print(f"se_train: {interruption}", file=sys.stderr)
        return 128 + interruption.signal_number  # the shell's convention
    if os.environ.get("RANK", "0") == "0":
        print(folder)
    return 0


def _run(arguments: argparse.Namespace, config: "TrainingConfig", device: str | None) -> "Path":
    from se_unet.cpu.allocator import keep_freed_memory
    from trainers.run import train

    keep_freed_memory()
    return train(
        arguments.dataset,
        arguments.work,
        arguments.network,
        arguments.configuration,
        arguments.fold,
        config,
        tag=arguments.tag,
        resume=arguments.resume,
        restart=arguments.restart,
        validate_only=arguments.validate_only,
        preview=arguments.preview,
        group_by=arguments.group_by,
        device=device,
        progress=Bar(arguments.quiet),
        resume_hint=f"Go on with: {_resume_command(sys.argv[1:])}",
    )


def _start_processes(arguments: argparse.Namespace) -> int:
    """Run this command once for each GPU, through torchrun, which hands signals on and ends all when one fails."""
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={arguments.num_gpus}"]
    line = [*program, "-m", "trainers.cli", *sys.argv[1:]]
    os.execv(sys.executable, line)


@contextmanager
def _processes(arguments: argparse.Namespace) -> "Iterator[str | None]":
    """Join the processes that torchrun has started, if it has. Gives this one's device."""
    if "LOCAL_RANK" not in os.environ:
        yield arguments.device
        return
    import torch
    from torch import distributed

    local, on_gpu = int(os.environ["LOCAL_RANK"]), torch.cuda.is_available() and arguments.device != "cpu"
    device = f"cuda:{local}" if on_gpu else "cpu"
    if on_gpu:
        torch.cuda.set_device(local)
    if int(os.environ["RANK"]) > 0:
        arguments.quiet = True  # the first process speaks for all
        logging.getLogger("trainers").setLevel(logging.WARNING)
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield device
    finally:
        distributed.destroy_process_group()


def _overrides(arguments: argparse.Namespace) -> dict[str, object]:
    """Settings given by options, then those given by --set. Raises `InputError` for what is no KEY=VALUE."""
    import json

    from configs.errors import Fault, raise_faults

    raise_faults(
        Fault(f"--set {text}", "it is no KEY=VALUE", "Write for example --set momentum=0.95")
        for text in arguments.set
        if "=" not in text
    )
    names = ["epochs", "iterations", "learning_rate", "batch_size", "seed", "workers", "init_weights", "deterministic", "loggers"]
    names += [f"{part}_class" for part in _PARTS]
    given: dict[str, object] = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
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


if __name__ == "__main__":
    sys.exit(main())
