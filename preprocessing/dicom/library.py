"""The optional library pydicom: parse one file from bytes, without more memory than the file can justify."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from threading import RLock
from typing import TYPE_CHECKING

from configs.errors import DAMAGE, Fault, InputError

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

DEFLATED = "1.2.840.10008.1.2.1.99"
MOST_ITEMS = 500_000  # items of sequences in a file: pydicom needs about a kilobyte for each
_PREAMBLE, _MAGIC = 128, b"DICM"
_ITEM = b"\xfe\xff\x00\xe0"
_TRANSFER_SYNTAX = 0x00020010
_LOCK = RLock()
# First elements of files without a preamble: group length, character set, kind and identifier of an image.
_FIRST = tuple(
    bytes((group, 0, element, 0)) for group, element in [(2, 0), (2, 1), (2, 2), *((8, e) for e in (0, 1, 5, 8, 0x16))]
)


class NoDicomError(ValueError):
    """The bytes are not a DICOM file that can be parsed.

    It is raised `from None`, like other refusals here: tracebacks go into logs, and pydicom's messages quote values.
    """


def require_library() -> None:
    """Raise `InputError` where the extra `dicom` is not installed."""
    try:
        import highdicom  # noqa: F401
        import pydicom  # noqa: F401
    except ImportError as error:
        problem = f"`{error.name}` is not installed"
        raise InputError(Fault("DICOM files", problem, "Run pip install 'se-unet[dicom]'")) from error


def unparsable() -> tuple[type[Exception], ...]:
    """Return what pydicom raises for damaged files."""
    from pydicom.errors import BytesLengthException, InvalidDicomError

    return (*DAMAGE, AttributeError, NotImplementedError, BytesLengthException, InvalidDicomError)


def looks_like_dicom(start: bytes) -> bool:
    """Return whether a file begins as DICOM files do: with a preamble and `DICM`, or with one of the usual first elements."""
    return start[_PREAMBLE : _PREAMBLE + len(_MAGIC)] == _MAGIC or start.startswith(_FIRST)


def parse(content: bytes, pixels: bool = False) -> "tuple[FileDataset, int]":
    """Parse a file from its bytes, or from the first of them.

    Args:
        content: bytes of the file.
        pixels: whether the element with the pixel data is read too.

    Returns:
        The elements, and the place in bytes where parsing ended: at the pixel data, unless these are read.

    Raises:
        NoDicomError: the bytes cannot be parsed, or would take much more memory than the file has.
    """
    from pydicom import dcmread

    try:
        if content.count(_ITEM) > MOST_ITEMS:
            raise NoDicomError(f"it has more than {MOST_ITEMS} items")
        if transfer_syntax(content) == DEFLATED:
            raise NoDicomError("it is deflated as a whole, which is not read")
        stream = BytesIO(content)
        with unchecked():
            return dcmread(stream, stop_before_pixels=not pixels, force=True), stream.tell()
    except NoDicomError:
        raise
    except unparsable() as error:
        raise NoDicomError(f"it is damaged ({type(error).__name__})") from None


def transfer_syntax(content: bytes) -> str:
    """Return the UID in the file's first group that says how the rest is stored, or "" where there is none."""
    from pydicom.filereader import data_element_generator, read_preamble

    stream = BytesIO(content)
    if read_preamble(stream, force=True) is None:
        stream.seek(0)
    for element in data_element_generator(stream, False, True, stop_when=lambda tag, *_: tag >> 16 != 2):
        if element.tag == _TRANSFER_SYNTAX and isinstance(element.value, bytes):
            return element.value.rstrip(b"\0 ").decode("ascii", "replace")
    return ""


@contextmanager
def unchecked() -> Iterator[None]:
    """Let pydicom and highdicom take values as they are: they would print those that break a rule, which may be a patient's.

    One thread at a time, since levels of loggers are those of the process. Filters of warnings are too; the one that is added here stays,
    as no thread may take back what others have set meanwhile.
    """
    import warnings

    from pydicom.config import disable_value_validation

    with _LOCK, disable_value_validation():
        warnings.filterwarnings("ignore", module="pydicom|highdicom")
        loggers = [logging.getLogger(name) for name in ("pydicom", "highdicom")]
        before = [logger.level for logger in loggers]
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL)
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)
