"""The series of a folder or ZIP file as cases to segment."""

import logging
from dataclasses import dataclass
from pathlib import Path

from configs.dataset import DatasetDescription
from configs.errors import Fault, InputError
from preprocessing.dicom.find import FoundSeries, Series, find_series, write_lists

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class InputCases:
    """Cases of the input of se_predict."""

    files: dict[str, tuple[Path, ...]]  # case -> its image files; of a DICOM series, its list
    refused: tuple[Fault, ...]  # DICOM series that cannot be segmented


def dicom_cases(path: Path, description: DatasetDescription, room: Path, do_refer: bool) -> InputCases:
    """Find the series of a DICOM input, and say which ones are left out and why.

    The lists of series lie in the folder `room`, which must last as long as the cases. `do_refer` tells that DICOM segmentations will refer
    to the series.

    Raises:
        InputError: the model needs several channels, or no series can be segmented; all faults are listed.
    """
    if len(description.channels) > 1:
        problem = (
            f"a DICOM series is one channel, but the model has {len(description.channels)}: {', '.join(description.channels)}"
        )
        raise InputError(
            Fault(str(path), problem, "Convert the series with se_dicom convert, and list the channels of each case")
        )
    found = find_series(path)
    lacking = {case: series for case, series in found.series.items() if do_refer and series.lacks}
    usable = {case: series for case, series in found.series.items() if case not in lacking}
    refused = [*found.faults, *(_cannot_be_referred_to(case, series) for case, series in lacking.items())]
    if not usable:
        raise InputError(*refused, *found.left_out)
    _tell(found, refused)
    return InputCases(write_lists(usable, room), tuple(refused))


def _cannot_be_referred_to(case: str, series: Series) -> Fault:
    problem = f"a DICOM segmentation must name {', '.join(series.lacks)}, which the series lacks"
    return Fault(f"series `{case}`", problem, "Leave out --dicom")


def _tell(found: FoundSeries, refused: list[Fault]) -> None:
    for fault in found.left_out:
        logger.info("%s", fault)
    for fault in refused:
        logger.error("%s", fault)
