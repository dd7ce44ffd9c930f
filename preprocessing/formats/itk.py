"""NRRD, MetaImage and GIPL files through SimpleITK."""

import math
import re
from pathlib import Path

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from configs.errors import Fault, InputError
from configs.files import replacing
from preprocessing.formats.format import Format
from preprocessing.formats.itk_metadata import check_metadata, check_unit
from preprocessing.formats.nifti_geometry import check_lengths
from preprocessing.formats.size_checks import MOST_DEFLATED, check_size, unpack
from preprocessing.geometry.affine import Geometry

_LONGEST_NAME, _LONGEST_LINE = 80, 1000  # bytes; the library keeps names in 255 and texts in 1024
_MOST_AXES = 10
_LAST = b"elementdatafile"
_LINE = re.compile(rb"[ \t]*([A-Za-z0-9_.\-]+)[ \t]*=[ \t]*([^\x00-\x08\x0a-\x1f]*?)[ \t]*\r?")
_INTEGER = re.compile(rb"[+-]?\d{1,18}")
_NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")
# What holds one number for each axis (1), or for each pair of axes (2).
_PER_AXIS = {b"dimsize": 1, b"elementspacing": 1, b"elementsize": 1, b"offset": 1, b"position": 1, b"origin": 1}
_PER_AXIS |= {b"centerofrotation": 1, b"transformmatrix": 2, b"rotation": 2, b"orientation": 2}
_SINGLE = (b"ndims", b"headersize", b"compresseddatasize", b"elementnumberofchannels", b"compressionlevel")
_GZIP = b"\x1f\x8b"
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK's left, posterior, superior and NIfTI's right, anterior, superior
_MOST_PACKED = 50_000  # bytes that one byte of any other compression holds at most
_HEADER = 2**16  # bytes of a file that its text header is looked for in
_DATA_FILE = re.compile(rb"^(?:ElementDataFile\s*=|data ?file:)[ \t]*(.+?)\s*$", re.MULTILINE | re.IGNORECASE)
_ENCODING = re.compile(rb"^(?:encoding:|CompressedData\s*=)[ \t]*(\S+)", re.MULTILINE | re.IGNORECASE)
_META = (".mha", ".mhd")
_NRRD, _NRRD_GEOMETRY = (".nrrd", ".nhdr"), (b"space", b"space directions", b"space origin")
_NUMBERED = re.compile(rb"[^%]*%0?\d{0,2}d[^%]*")  # one whole number in the name
_SPACINGS = re.compile(rb"^(?:ElementSpacing *=|spacings:)([^\r\n]+)", re.MULTILINE | re.IGNORECASE)
_SKIP = re.compile(rb"^(?:byte|line) ?skip:|^HeaderSize", re.MULTILINE | re.IGNORECASE)
_AFTER_BLANK_LINE, _AFTER_LOCAL = re.compile(rb"\r?\n\r?\n"), re.compile(rb"ElementDataFile\s*=[ \t]*LOCAL[ \t]*\r?\n")
_RATIOS = {b"raw": 1, b"false": 1, b"gzip": MOST_DEFLATED, b"gz": MOST_DEFLATED, b"true": MOST_DEFLATED}


class Itk(Format):
    """NRRD, MetaImage and GIPL, compressed or not; channels are the components of a voxel."""

    endings = (".nrrd", ".nhdr", ".mha", ".mhd", ".gipl", ".gipl.gz")

    def read(self, path: Path) -> tuple[NDArray, NDArray[np.float64]]:
        """Return the voxels and the affine."""
        self.read_header(path)
        _check_content(path)
        image = SimpleITK.ReadImage(str(path))
        data = SimpleITK.GetArrayFromImage(image)
        volumes = np.moveaxis(data, 3, 0) if image.GetNumberOfComponentsPerPixel() > 1 else data[None]
        return volumes, affine_of(image)

    def read_header(self, path: Path) -> tuple[tuple[int, ...], NDArray[np.float64]]:
        """Return the shape (C, Z, Y, X) and the affine in the header."""
        _check_header(path)
        reader = SimpleITK.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        if reader.GetDimension() != 3:
            problem = f"it has {reader.GetDimension()} axes"
            raise InputError(Fault(str(path), problem, "Three are needed, with channels as components"))
        check_metadata(str(path), reader)
        for unit in _nrrd_units(path):
            check_unit(str(path), unit)
        shape = (reader.GetNumberOfComponents(), *reader.GetSize()[::-1])
        bits = re.search(r"\d+", SimpleITK.GetPixelIDValueAsString(reader.GetPixelID()))
        possible = _possible_bytes(path)
        if possible is not None:
            check_size(path, shape, math.prod(shape) * (int(bits[0]) if bits else 8) // 8, possible)
        return shape, affine_of(reader)

    def write(self, path: Path, array: NDArray, geometry: Geometry, like: Path | None) -> None:
        """Write an array (Z, Y, X); the spacing, origin and direction of `like` are kept to the bit."""
        image = SimpleITK.GetImageFromArray(array)
        if like is None:
            direction = _LPS[:3, :3] @ geometry.direction
            image.SetSpacing(geometry.spacing[::-1])
            image.SetDirection(direction.ravel().tolist())
            image.SetOrigin((_LPS @ geometry.matrix)[:3, 3].tolist())
        else:
            reader = SimpleITK.ImageFileReader()
            reader.SetFileName(str(like))
            reader.ReadImageInformation()
            image.SetSpacing(reader.GetSpacing())
            image.SetDirection(reader.GetDirection())
            image.SetOrigin(reader.GetOrigin())
        if _is_detached(path):  # the header names its data file, so it cannot be renamed
            path.parent.mkdir(parents=True, exist_ok=True)
            _save(path, image, like)
            return
        with replacing(path) as temporary:
            _save(temporary, image, like)

    def companions(self, path: Path) -> tuple[Path, ...]:
        """Return the file with the voxels that a detached header names, where it is one file."""
        data_file = _data_file(path, _start(path)) if _is_detached(path) else None
        return () if data_file is None or not data_file.is_file() else (data_file,)


def affine_of(image: "SimpleITK.Image | SimpleITK.ImageFileReader") -> NDArray[np.float64]:
    """Return the affine (4, 4) of a three-dimensional image or header: from voxel indices (x, y, z) to RAS+ mm."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return _LPS @ affine


def _save(path: Path, image: SimpleITK.Image, like: Path | None) -> None:
    SimpleITK.WriteImage(image, str(path), useCompression=True)
    if like is not None and all(name.suffix.lower() in _NRRD for name in (like, path)):
        _copy_nrrd_geometry(path, like)


def _copy_nrrd_geometry(path: Path, like: Path) -> None:
    """Put the source's own words for its geometry into a written file: NRRD holds products of spacing and direction, and taking
    them apart and multiplying them again rounds."""
    own, header, content = _nrrd_lines(_start(like)), _start(path), path.read_bytes()
    end = _AFTER_BLANK_LINE.search(header)
    if end is None or not all(field in own for field in _NRRD_GEOMETRY):
        return
    own[b"space directions"] = own[b"space directions"].replace(b"none", b"")  # of an axis of channels
    lines = [
        field + b": " + own[field].strip() if (field := line.split(b":", 1)[0]) in _NRRD_GEOMETRY else line
        for line in header[: end.start()].splitlines()
    ]
    path.write_bytes(b"\n".join(lines) + b"\n\n" + content[end.end() :])


def _nrrd_units(path: Path) -> list[str]:
    """The units of a NRRD file's space, which ITK does not read."""
    stated = _nrrd_lines(_start(path)).get(b"space units", b"") if path.suffix.lower() in _NRRD else b""
    return re.findall(r'"([^"]*)"', stated.decode("utf-8", "replace"))


def _nrrd_lines(header: bytes) -> dict[bytes, bytes]:
    """The fields of a NRRD header."""
    lines = _AFTER_BLANK_LINE.split(header, maxsplit=1)[0].splitlines()
    return {line.split(b":", 1)[0]: line.split(b":", 1)[1] for line in lines if b": " in line}


def _check_header(path: Path) -> None:
    """Raise where the text header has what crashes the libraries that parse it.

    Names of data files with a number in them (`slice%03d.raw`) are handed to C's `printf`, which obeys any conversion.
    """
    header = _start(path)
    named = _DATA_FILE.search(header)
    if named is not None and b"%" in named[1] and not _NUMBERED.fullmatch(named[1]):
        raise ValueError(f"the name of its data file is not valid: {named[1][:60]!r}")
    if path.name.lower().endswith(_META):
        _check_meta_header(header)
    stated = _SPACINGS.search(header)
    if stated is not None:
        sizes = [float(size) for size in stated[1].split()]
        check_lengths(str(path), "its header", [size for size in sizes if not math.isnan(size)])  # NaN: an axis of channels


def _check_content(path: Path) -> None:
    """Raise where compressed content is damaged and the library would go on with what it could unpack."""
    header = _start(path)
    encoding = _ENCODING.search(header)
    is_meta_image = path.name.lower().endswith(_META)
    if header[:2] == _GZIP:  # GIPL
        unpack(path.read_bytes(), path.stat().st_size * MOST_DEFLATED)
    elif encoding and encoding[1].lower() in (b"true", b"gzip", b"gz") and not _SKIP.search(header):
        data_file = _data_file(path, header)
        if data_file is not None and not data_file.is_file():
            return  # the voxels lie in several files
        content = (data_file or path).read_bytes()
        if data_file is None:
            content = (_AFTER_LOCAL if is_meta_image else _AFTER_BLANK_LINE).split(content, maxsplit=1)[-1]
        unpack(content, max(1, len(content)) * MOST_DEFLATED)


def _start(path: Path) -> bytes:
    """The part of the file that its text header is looked for in."""
    with path.open("rb") as file:
        return file.read(_HEADER)


def _possible_bytes(path: Path) -> int | None:
    """Bytes that the file's data can unpack to, or None where they lie in several files.

    Raises:
        InputError: the header names a data file that does not exist.
    """
    header = _start(path)
    if path.name.lower().endswith((".gipl", ".gipl.gz")):
        return path.stat().st_size * (MOST_DEFLATED if header[:2] == _GZIP else 1)
    encoding = _ENCODING.search(header)
    ratio = _RATIOS.get(encoding[1].lower(), _MOST_PACKED) if encoding else 1
    data_file = _data_file(path, header)
    if data_file is None:
        return path.stat().st_size * ratio
    if "%" in data_file.name or data_file.name.upper().startswith("LIST"):
        return None
    if not data_file.is_file():
        raise InputError(Fault(str(path), f"its data file {data_file} does not exist", "Copy it beside the header"))
    return data_file.stat().st_size * ratio


def _data_file(path: Path, header: bytes) -> Path | None:
    """The file that holds the voxels, or None where they follow the header."""
    named = _DATA_FILE.search(header) if _is_detached(path) else None
    if named is None or named[1].upper() == b"LOCAL":
        return None
    return path.parent / named[1].decode("utf-8", "replace")


def _is_detached(path: Path) -> bool:
    """Whether the file is a header whose voxels lie in a file of their own."""
    return path.suffix.lower() in (".nhdr", ".mhd")


def _check_meta_header(header: bytes) -> None:
    """Raise a `ValueError` where a line up to `ElementDataFile` is malformed, too long, or has not one number for each axis."""
    axes: int | None = None
    for line in header.split(b"\n"):
        if not line.strip():
            continue
        found = _LINE.fullmatch(line)
        if found is None or len(found[1]) > _LONGEST_NAME or len(line) > _LONGEST_LINE:
            raise ValueError(f"a line of its header is not `Name = value`: {line[:60]!r}")
        name, words = found[1].lower(), found[2].split()
        if name in _SINGLE and not (len(words) == 1 and _INTEGER.fullmatch(words[0])):
            raise ValueError(f"`{found[1].decode()}` must be one whole number, not {found[2][:60]!r}")
        if name == b"ndims":
            if axes is not None or not 1 <= int(words[0]) <= _MOST_AXES:
                raise ValueError(f"`NDims` must be given once, from 1 to {_MOST_AXES}")
            axes = int(words[0])
        if name in _PER_AXIS:
            _check_numbers(found[1].decode(), words, axes, _PER_AXIS[name])
        if name == _LAST:
            return
    if len(header) < 2 * _LONGEST_LINE:
        raise ValueError("its header does not end with `ElementDataFile`")


def _check_numbers(name: str, words: list[bytes], axes: int | None, power: int) -> None:
    if axes is None:
        raise ValueError(f"`{name}` comes before `NDims`")
    kind = _INTEGER if name.lower() == "dimsize" else _NUMBER
    if len(words) != axes**power or not all(kind.fullmatch(word) for word in words):
        raise ValueError(f"`{name}` must be {axes**power} numbers")
