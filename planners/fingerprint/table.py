"""Write the fingerprint as a table with one row for each case."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.fingerprint import CaseFingerprint, Fingerprint
from preprocessing.tables import write_frame

if TYPE_CHECKING:
    import pandas as pd

AXES = ("z", "y", "x")


def fingerprint_table(fingerprint: Fingerprint) -> "pd.DataFrame":
    """Return the table, indexed by case. `docs/reference/files.md` describes the columns."""
    import pandas as pd

    rows = {identifier: _row(case) for identifier, case in fingerprint.cases.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("case")


def write_fingerprint_table(path: Path, fingerprint: Fingerprint) -> None:
    """Write the table as a CSV file, atomically."""
    write_frame(path, fingerprint_table(fingerprint), with_index=True)


def _row(case: CaseFingerprint) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, values in (("spacing", case.spacing), ("shape", case.shape), ("cropped", case.shape_after_crop)):
        row |= {f"{name}_{axis}": value for axis, value in zip(AXES, values, strict=True)}
    row["kept_by_crop"] = case.relative_size_after_crop
    for channel, quantiles in enumerate(case.intensities):
        row |= {f"channel_{channel}_{name}": value for name, value in quantiles.model_dump().items()}
    for label, sizes in case.labels.items():
        row[f"{label}: voxels"] = sizes.voxels
        row[f"{label}: volume_mm3"] = sizes.volume
        row[f"{label}: diameter_mm"] = (6 / math.pi * sizes.volume) ** (1 / 3)  # diameter of a ball of this volume
        row[f"{label}: components"] = sizes.components
    return row
