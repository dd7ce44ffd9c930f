"""Self-contained HTML report on one model: it fetches nothing, runs one inline script and escapes all names."""

from dataclasses import dataclass
from importlib import resources

from markupsafe import Markup

from configs.errors import counted, times
from inference.evaluation.equivariance import EquivarianceCurve
from inference.model import make_network
from inference.report.case_slices import show_cases, slices_words
from inference.report.numbers import in_thousands, in_time, shown_interval, shown_number, timing_of
from inference.report.scoring import overall, ranked
from inference.report.sections import (
    Measured,
    equivariance_section,
    plan_section,
    results_section,
    robustness_section,
    training_section,
)
from inference.report.trained import TrainedModel
from preprocessing.pages.figures import in_figures, label_colours
from preprocessing.pages.rendering import page_environment, script_source
from se_unet.cost import multiply_adds

PACKAGE = "inference.report"


@dataclass(frozen=True)
class Size:
    """Numbers of parameters and multiply-adds of a network; None if unknown."""

    parameters: int | None
    multiply_adds: int | None


def model_page(model: TrainedModel, measured: Measured, worst: int = 3) -> str:
    """Return the page as HTML, with all slices of the `worst` cases. Equal folders give equal pages."""
    script = Markup(resources.files(PACKAGE).joinpath("templates/viewer.js").read_text(encoding="utf-8"))
    colours = label_colours(len(model.plan.dataset.foreground))
    shown = show_cases(model, colours, worst)
    content = {
        "name": model.name,
        "dataset": model.plan.dataset.name,
        "summary": _summary(model),
        "tiles": _tiles(model, measured.equivariance),
        "notes": _notes(model),
        "legend": list(zip(model.plan.dataset.foreground, colours, strict=True)),
        "shown_cases": shown,
        "slices_words": slices_words(model),
        "script": script,
        "script_source": Markup(script_source(script)),
    }
    content |= results_section(model, {case.identifier: case.anchor for case in shown})
    content |= robustness_section(model) | equivariance_section(measured) | training_section(model) | plan_section(model)
    return page_environment(PACKAGE).get_template("model.html.j2").render(content)


def size_of(model: TrainedModel) -> Size:
    """Count parameters and multiply-adds of the planned network; they are unknown for a user's own class."""
    planned = model.plan.network
    if planned.network_class is not None:
        return Size(None, None)
    network = make_network(planned).eval()
    shape = (1, planned.network.input_channels, *planned.patch_size)
    return Size(sum(parameter.numel() for parameter in network.parameters()), multiply_adds(network, shape))


def _summary(model: TrainedModel) -> str:
    planned, group = model.plan.network, model.plan.network.network.scale_group
    scales = "" if group is None else f" with {counted(group.number, 'scale')}"
    return (
        f"Network {model.plan.network_name}{scales}, configuration {model.plan.configuration_name}: patches of "
        f"{times(planned.patch_size)} voxels at {times(model.plan.configuration.spacing)} mm (Z Y X). "
        f"Folds: {', '.join(fold.name for fold in model.folds) or 'none'}."
    )


def _tiles(model: TrainedModel, curve: EquivarianceCurve | None) -> list[dict[str, str]]:
    tiles = []
    if model.scores.cases:
        everything, order = overall(model), ranked(model)
        interval = f"95 %: {shown_interval(everything)}" if everything.interval else "too few cases for an interval"
        tiles.append({"title": "Mean Dice", "value": shown_number(everything.mean), "detail": interval})
        tiles.append({"title": "Worst case", "value": shown_number(order[0][1]), "detail": order[0][0]})
        tiles.append({"title": "Validated cases", "value": str(len(order)), "detail": counted(len(model.scores.folds), "fold")})
    size = size_of(model)
    if size.parameters is not None and size.multiply_adds is not None:
        detail = f"{in_figures(size.multiply_adds / 1e9)} billion multiply-adds per patch"
        tiles.append({"title": "Parameters", "value": in_thousands(size.parameters), "detail": detail})
    times_of = [timing for fold in model.folds if (timing := timing_of(fold))]
    if times_of:
        detail = f"{counted(times_of[0].epochs, 'epoch')} of {in_time(times_of[0].epoch)}"
        tiles.append({"title": f"Training of fold {times_of[0].fold}", "value": in_time(times_of[0].total), "detail": detail})
    if curve is not None and curve.mean is not None:
        detail = f"mean over factors {min(curve.factors):g} to {max(curve.factors):g}; 0 for an equivariant network"
        tiles.append({"title": "Equivariance error", "value": shown_number(curve.mean), "detail": detail})
    return tiles


def _notes(model: TrainedModel) -> list[str]:
    notes = [f"A file was omitted because it cannot be read. {note}" for note in model.notes]
    if model.scores.are_of_training_cases:
        notes.append("The scores are from cases that the network was trained on (fold all). They say little about new cases.")
    cases = len(model.scores.cases)
    if 0 < cases < 10:
        notes.append(
            f"There {'is' if cases == 1 else 'are'} only {counted(cases, 'validated case')}: means are uncertain, and intervals tend to "
            "be too narrow."
        )
    return notes
