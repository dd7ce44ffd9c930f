"""Self-contained HTML report on one model: it fetches nothing, runs one inline script and escapes all names."""

from dataclasses import dataclass
from importlib import resources

from markupsafe import Markup

from configs.training import TrainingConfig
from inference.evaluation.equivariance import COMPARED, EquivarianceCurve
from inference.outputs.viewer.page import viewer_script
from inference.report.case_slices import show_cases
from inference.report.figures import calibration_figure, dice_figure, equivariance_figure, robustness_figure, training_figure
from inference.report.numbers import report_environment, size_of, timings_of
from inference.report.scoring import TITLES, by_label, dice_over_sizes, dice_table, overall, ranked
from inference.report.trained import TrainedModel
from preprocessing.pages.figures import label_colours
from preprocessing.pages.rendering import script_source

_MOST_COLUMNS = 8  # labels with their own column in the table of cases


@dataclass(frozen=True)
class Measured:
    """Measurements for a report: the equivariance curve, or the reason why there is none."""

    equivariance: EquivarianceCurve | None = None
    why_not: str = "It was not requested."


def model_page(model: TrainedModel, measured: Measured, worst: int = 3) -> str:
    """Return the page as HTML, with all slices of the `worst` cases. Equal folders give equal pages."""
    slices = resources.files("inference.report").joinpath("templates/viewer.js").read_text(encoding="utf-8")
    script = Markup(slices + viewer_script())
    labels = model.plan.dataset.foreground
    colours = label_colours(len(labels))
    everything, summaries = overall(model), by_label(model) if model.scores.cases else []
    shown = show_cases(model, colours, worst)
    sizes, curve = dice_over_sizes(model.robustness), measured.equivariance
    content = {
        "model": model,
        "planned": model.plan.network,
        "legend": list(zip(labels, colours, strict=True)),
        "shown_cases": shown,
        "anchors": {case.identifier: case.anchor for case in shown},
        "size": size_of(model),
        "timings": timings_of(model),
        "settings": _changed(model.training),
        "script": script,
        "script_source": Markup(script_source(script)),
    }
    content |= {
        "everything": everything,
        "summaries": summaries,
        "score_titles": {name: title for name, title in TITLES.items() if any(name in summary.others for summary in summaries)},
        "ranked": ranked(model),
        "case_titles": labels if len(labels) <= _MOST_COLUMNS else (),
        "dice_of": dict(zip(model.scores.cases, dice_table(model).tolist(), strict=True)),
        "sizes": sizes,
        "curve": curve if curve and curve.shown else None,
        "why_not": "The network's output is constant, so there is nothing to compare." if curve else measured.why_not,
        "compared": COMPARED,
    }
    figures = {
        "training": training_figure(model.folds),
        "dice": dice_figure([everything, *summaries] if len(summaries) > 1 else summaries, first_is_all=len(summaries) > 1),
        "calibration": calibration_figure(model.calibration) if model.calibration else None,
        "robustness": robustness_figure({model.name: sizes}) if sizes else None,
        "equivariance": equivariance_figure({"this model": curve}) if curve and curve.shown else None,
    }
    return report_environment().get_template("model.html.j2").render(content, figures=figures)


def _changed(settings: TrainingConfig | None) -> dict[str, object]:
    """Return the settings that differ from the defaults."""
    default = TrainingConfig().model_dump()
    given = settings.model_dump() if settings else {}
    return {name: value for name, value in given.items() if value != default[name]}
