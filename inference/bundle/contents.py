"""What a bundle may hold: files of a model folder by name, listed with sizes and checksums in a manifest."""

from typing import Literal

from pydantic import Field

from configs.files import Value
from configs.folders import DATASET, EQUIVARIANCE, PLAN, SCALES, SETTINGS, parse_weights_name

MANIFEST = "manifest.json"
CARD = "model_card.md"

MOST_FILES = 1000
MOST_TEXT_BYTES = 16 * 1024 * 1024  # of a JSON file, the card, or the header of a weights file

_TEXTS = frozenset({PLAN, SETTINGS, SCALES, DATASET, EQUIVARIANCE, CARD})


class BundledFile(Value):
    """One file of a bundle: its size and the SHA-256 of its content."""

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(Value):
    """What is in a bundle.

    Attributes:
        format, version: of bundles.
        files: name -> size and checksum; all files but the manifest itself.
    """

    format: Literal["se-unet model"] = "se-unet model"
    version: Literal[1] = 1
    files: dict[str, BundledFile]

    def weights(self) -> dict[tuple[str, str], str]:
        """(fold, checkpoint) -> name of the file."""
        return {key: name for name in self.files if (key := parse_weights_name(name))}


def is_weights(name: str) -> bool:
    """Whether a file of this name holds weights."""
    return parse_weights_name(name) is not None


def is_allowed(name: str) -> bool:
    """Whether a bundle may hold a file of this name besides the manifest."""
    return name in _TEXTS or is_weights(name)
