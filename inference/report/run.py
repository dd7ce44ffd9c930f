"""Write report pages: one for each model, and an overview of several models."""

import logging
from dataclasses import dataclass
from pathlib import Path

from configs.errors import Fault, InputError, collecting, raise_faults, tolerating
from configs.files import list_folder, write_text
from configs.folders import DatasetFolder, ModelFolder
from configs.outputs import file_faults
from configs.progress import Progress, Silent
from inference.evaluation.equivariance import equivariance_curve, obstacle
from inference.report.overview import ReportedModel, overview_page
from inference.report.page import Measured, model_page
from inference.report.trained import TrainedModel, read_trained

_logger = logging.getLogger(__name__)
MODEL_PAGE, OVERVIEW_PAGE = "report.html", "models.html"


@dataclass(frozen=True)
class ReportOptions:
    """Options of a report.

    Attributes:
        worst: number of worst cases shown with all their slices.
        equivariance: whether to measure scale equivariance.
        device: device of the measurement; None takes the best available.
    """

    worst: int = 3
    equivariance: bool = True
    device: str | None = None


def write_report(
    folder: str | Path, output: str | Path | None = None, options: ReportOptions | None = None, progress: Progress | None = None
) -> Path:
    """Write the page of a model, `report.html` in its folder, or for a parent folder the pages of all its models and `models.html`.

    Files that are missing or damaged are left out, mentioned on the page and logged as warnings.

    Args:
        folder: folder of a model or of a dataset in WORK, or WORK itself.
        output: path of the page; None takes the names above.
        options: options of the report; None takes the defaults.
        progress: progress display over the measurements.

    Returns:
        The path of the page.

    Raises:
        InputError: there is no model, a plan cannot be read, or the system cannot read an existing file. If there are several models,
            the pages of the others are written first, and `models.html` names those that are left out.
    """
    options, progress, folder = options or ReportOptions(), progress or Silent(), Path(folder)
    if is_model(folder):
        page = Path(output or folder / MODEL_PAGE)
        raise_faults(file_faults(page))
        _write_model(read_trained(folder), page, options, progress)
        return page
    page = Path(output or folder / OVERVIEW_PAGE)
    raise_faults(file_faults(page))
    entries, faults = [], list[Fault]()
    for path in find_models(folder):
        with collecting(faults):
            raise_faults(file_faults(path / MODEL_PAGE))
            model = read_trained(path)
            measured = _write_model(model, path / MODEL_PAGE, options, progress)
            entries.append(ReportedModel(model, measured.equivariance, path / MODEL_PAGE))
    if entries:
        write_text(page, overview_page(folder, entries, page, faults))
        _logger.log(logging.WARNING if faults else logging.DEBUG, "wrote %s with %d models", page, len(entries))
    raise_faults(faults)
    return page


def is_model(folder: Path) -> bool:
    """Return whether this is a model folder."""
    model = ModelFolder(folder)
    return model.plan.is_file() and not DatasetFolder(folder).models and bool(model.folds())


def find_models(folder: Path) -> list[Path]:
    """Return the model folders in a dataset folder, in WORK, or in a folder `models`.

    Raises:
        InputError: there is none.
    """
    above = [folder, *(DatasetFolder(place).models_folder for place in (folder, *list_folder(folder, "*")))]
    found = {path for place in above for path in list_folder(place, "*") if is_model(path)}
    if not found:
        remedy = "Give a model folder such as se_work/DATASET/models/3d_fullres_se, or a parent folder"
        raise InputError(Fault(str(folder), "no trained model in this folder", remedy))
    return sorted(found)


def _write_model(model: TrainedModel, page: Path, options: ReportOptions, progress: Progress) -> Measured:
    for note in model.notes:
        _logger.warning("left out of the report: %s", note)
    measured = _measure(model, options, progress)
    write_text(page, model_page(model, measured, options.worst))
    return measured


def _measure(model: TrainedModel, options: ReportOptions, progress: Progress) -> Measured:
    if not options.equivariance:
        return Measured()
    reason = obstacle(model.plan)
    if reason is not None:
        return Measured(why_not=reason)
    with tolerating() as faults:  # the rest of the report is useful without weights
        return Measured(equivariance_curve(model.folder, options.device, progress))
    why = " ".join(map(str, faults))
    _logger.warning("left out of the report, scale equivariance: %s", why)
    return Measured(why_not=why)
