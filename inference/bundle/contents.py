"""Contents of a bundle: files of a model folder, listed with sizes and checksums in a manifest."""

from typing import Literal

from pydantic import Field

from configs.files import Value
from configs.folders import CALIBRATION, DATASET, EQUIVARIANCE, FORMER_SCALES, PLAN, SETTINGS, parse_weights_name
from inference.prediction.selection import FILE as SELECTION

MANIFEST = "manifest.json"
CARD = "model_card.md"

MOST_FILES = 1000
MOST_TEXT_BYTES = 16 * 1024 * 1024  # limit for a JSON file, the card, and the header of a weights file

_TEXTS = frozenset({PLAN, SETTINGS, CALIBRATION, DATASET, EQUIVARIANCE, FORMER_SCALES, SELECTION, CARD})


class BundledFile(Value):
    """Size and SHA-256 digest of one file of a bundle."""

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(Value):
    """Format of a bundle and its version, with size and checksum of every file except the manifest, by name."""

    format: Literal["se-unet model"] = "se-unet model"
    version: Literal[1] = 1
    files: dict[str, BundledFile]

    def weights(self) -> dict[tuple[str, str], str]:
        """Return the names of the weights files by fold and checkpoint."""
        return {key: name for name in self.files if (key := parse_weights_name(name))}


def is_weights(name: str) -> bool:
    """Return whether a file of this name holds weights."""
    return parse_weights_name(name) is not None


def is_allowed(name: str) -> bool:
    """Return whether a bundle may contain a file of this name besides the manifest."""
    return name in _TEXTS or is_weights(name)
