"""Record the results of each epoch, and write them as a CSV table and a figure."""

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from configs.files import replacing
from preprocessing.tables import write_frame

_MOST_LABELS = 10  # shown individually


@dataclass(frozen=True)
class EpochRecord:
    """Results of one epoch. NaN means not measured."""

    epoch: int  # number of the epoch, from 1
    learning_rate: float  # that of the last step
    training_loss: float  # mean over batches
    validation_loss: float  # mean over batches, of the finest decoder stage only
    pseudo_dice: dict[str, float]  # Dice over validation patches by label
    mean_pseudo_dice: float  # mean over the labels that occur
    ema_pseudo_dice: float  # exponential moving average of the mean
    volume_dice: float  # mean foreground Dice of whole validation volumes
    skipped_steps: int  # steps skipped because a loss or gradient was not finite
    seconds: float  # duration of training and validation
    data_wait_share: float  # share of the training time spent waiting for data
    peak_memory: float  # peak of this process so far in bytes, on the GPU if it trains there

    def row(self) -> dict[str, float]:
        """Return the record as a flat row with a column for each label."""
        flat = {name: value for name, value in vars(self).items() if name != "pseudo_dice"}
        return flat | {f"pseudo_dice_{label}": value for label, value in self.pseudo_dice.items()}

    def summary(self, epochs: int) -> str:
        """Return one line for the log."""
        shown = list(self.pseudo_dice.items())[:_MOST_LABELS]
        dice = ", ".join(f"{label} {_shown(value)}" for label, value in shown)
        dice += ", ..." * (len(self.pseudo_dice) > len(shown))
        whole = "" if math.isnan(self.volume_dice) else f"Dice of whole volumes {self.volume_dice:.3f}, "
        return (
            f"epoch {self.epoch}/{epochs}: loss {self.training_loss:.4f}, validation loss {_shown(self.validation_loss, 4)}, "
            f"pseudo-Dice {_shown(self.mean_pseudo_dice)} ({dice}), average {_shown(self.ema_pseudo_dice)}, "
            f"{whole}lr {self.learning_rate:.2e}, {self.seconds:.1f} s, {self.data_wait_share:.0%} of the time waiting for data"
        )


class History:
    """Rows of the finished epochs (`EpochRecord.row`), also of a training that is resumed, and the files that show them."""

    def __init__(self, rows: list[dict[str, float]] | None = None):
        self.rows = list(rows or [])

    def append(self, record: EpochRecord) -> None:
        """Add an epoch."""
        self.rows.append(record.row())

    def write_table(self, path: Path) -> None:
        """Write the CSV file atomically; empty cells mean not measured."""
        write_frame(path, pd.DataFrame(self.rows), float_format="%.6g")

    def write_picture(self, path: Path) -> None:
        """Write a figure of losses, pseudo-Dice, learning rate and time per epoch, atomically."""
        table = pd.DataFrame(self.rows)
        figure = Figure(figsize=(9, 10))
        FigureCanvasAgg(figure)
        # Fixed margins, since fitting them would draw the figure twice.
        margins = {"left": 0.09, "right": 0.9, "bottom": 0.06, "top": 0.98, "hspace": 0.08}
        upper, middle, lower = figure.subplots(3, 1, sharex=True, gridspec_kw=margins)
        _draw(upper, table, {"training_loss": "training", "validation_loss": "validation"}, "loss (CE - Dice)")
        columns = [str(name) for name in table.columns]
        labels = {name: name.removeprefix("pseudo_dice_") for name in columns if name.startswith("pseudo_dice_")}
        if len(labels) > _MOST_LABELS:
            labels = {"mean_pseudo_dice": f"mean of {len(labels)} labels"}
        _draw(middle, table, {**labels, "ema_pseudo_dice": "moving average", "volume_dice": "whole volumes"}, "Dice")
        middle.set_ylim(0, 1)
        _draw(lower, table, {"seconds": "seconds"}, "seconds per epoch")
        lower.set_ylim(bottom=0)
        rate = lower.twinx()
        _draw(rate, table, {"learning_rate": "learning rate"}, "learning rate", style="k--")
        lower.set_xlabel("epoch")
        lower.xaxis.set_major_locator(MaxNLocator(integer=True))
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=100)


def _draw(axes: Axes, table: pd.DataFrame, columns: dict[str, str], title: str, style: str = "") -> None:
    for column, label in columns.items():
        measured = table[["epoch", column]].dropna()
        marker = "." if len(measured) < 50 else None
        axes.plot(measured["epoch"], measured[column], *([style] if style else []), label=label, marker=marker)
    axes.set_ylabel(title)
    if not style:
        axes.legend(fontsize="small")
        axes.grid(alpha=0.3)


def _shown(value: float, digits: int = 3) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
