"""Times and sizes of a report, and the form of its numbers."""

import math
from dataclasses import dataclass

from jinja2 import Environment

from inference.model import make_network
from inference.report.scoring import Summary
from inference.report.trained import Fold, TrainedModel
from preprocessing.pages.rendering import page_environment
from se_unet.cost import multiply_adds


@dataclass(frozen=True)
class Timing:
    """Time and memory of the training of one fold."""

    fold: str  # name of the fold
    epochs: int  # number of logged epochs
    total: float  # seconds of all epochs, including validation on patches
    epoch: float  # median seconds of an epoch
    waiting: float | None  # share of the training time spent waiting for data, averaged over epochs; None if not logged
    skipped: int  # number of steps skipped because a loss or gradient was not finite
    memory: float | None  # peak memory of the training process in bytes; None if not logged


def timings_of(model: TrainedModel) -> list[Timing]:
    """Return time and memory from the log of each fold that has times."""
    return [timing for fold in model.folds if (timing := _timing(fold))]


def _timing(fold: Fold) -> Timing | None:
    log = fold.log
    if not len(log) or "seconds" not in log or log["seconds"].isna().all():
        return None
    memory = log["peak_memory"].max() if "peak_memory" in log else None
    return Timing(
        fold=fold.name,
        epochs=len(log),
        total=float(log["seconds"].sum()),
        epoch=float(log["seconds"].median()),
        waiting=float(log["data_wait_share"].mean()) if "data_wait_share" in log else None,
        skipped=int(log["skipped_steps"].sum()) if "skipped_steps" in log else 0,
        memory=None if memory is None or memory != memory else float(memory),
    )


@dataclass(frozen=True)
class NetworkSize:
    """Numbers of parameters and multiply-adds of a network; None if unknown."""

    parameters: int | None
    multiply_adds: int | None


def size_of(model: TrainedModel) -> NetworkSize:
    """Count parameters and multiply-adds of the planned network; they are unknown for a user's own class."""
    planned = model.plan.network
    if planned.network_class is not None:
        return NetworkSize(None, None)
    network = make_network(planned).eval()
    shape = (1, planned.network.input_channels, *planned.patch_size)
    return NetworkSize(sum(parameter.numel() for parameter in network.parameters()), multiply_adds(network, shape))


def report_environment() -> Environment:
    """Return the environment of the report's templates, with filters for its numbers."""
    environment = page_environment("inference.report", "inference.outputs.viewer")
    environment.filters |= {"decimals": shown_number, "interval": shown_interval, "thousands": in_thousands}
    environment.filters |= {"time": in_time, "bytes": in_bytes}
    return environment


def shown_number(value: float | None, digits: int = 3) -> str:
    """Format a number with this many decimals; a dash if it is undefined."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def shown_interval(summary: Summary) -> str:
    """Format the 95 % interval of a mean."""
    return "-" if summary.interval is None else f"{summary.interval.low:.3f} to {summary.interval.high:.3f}"


def in_thousands(number: int) -> str:
    """Format a number like `135 k` or `31.2 M`."""
    return f"{number / 1e6:.3g} M" if number >= 1e6 else f"{number / 1e3:.3g} k"


def in_time(seconds: float) -> str:
    """Format a duration like `2 h 5 min`."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def in_bytes(number: float) -> str:
    """Format an amount of memory like `1.4 GB`."""
    return f"{number / 1e9:.2g} GB" if number < 1e10 else f"{number / 1e9:.0f} GB"
