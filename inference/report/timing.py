"""Time and memory of a training, from its log."""

from dataclasses import dataclass

from inference.report.trained import Fold


@dataclass(frozen=True)
class Timing:
    """Of one fold.

    Attributes:
        fold: its name.
        epochs: in the log.
        total: seconds of all epochs, validation on patches included.
        epoch: median seconds of one.
        waiting: share of the training time spent waiting for data, mean over epochs.
        skipped: steps left out as not finite.
        memory: most bytes that the training process held at a time, or None where the log does not tell.
    """

    fold: str
    epochs: int
    total: float
    epoch: float
    waiting: float | None
    skipped: int
    memory: float | None


def timing_of(fold: Fold) -> Timing | None:
    """None where there is no log, or it tells no times."""
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
