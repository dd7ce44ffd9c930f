"""What a series must be to become a volume: each rule says what it found, and how to help."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from configs.errors import Fault, listed
from preprocessing.dicom.header import COMPRESSED, UNCOMPRESSED, DicomHeader, Plane
from preprocessing.dicom.stack import is_orientation
from preprocessing.geometry.affine import LARGEST, SMALLEST
from preprocessing.geometry.same_grid import is_same_direction, is_same_spacing

# Kinds of objects (SOP classes); numbers that follow tell multi-frame and other variants.
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"
_CT_MR_AND_PET = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.128")
_NO_IMAGES = ("SEG", "RTSTRUCT", "RTDOSE", "RTPLAN", "RTRECORD", "SR", "PR", "KO", "REG", "FID", "DOC", "ECG", "PLAN", "M3D")
# Radiographs, ultrasound, photographs.
_PROJECTIONS = ("CR", "DX", "MG", "RF", "RTIMAGE", "XA", "PX", "IO", "US", "ES", "XC", "GM", "SM", "OP")
_MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
_BITS = (8, 16, 32)


def left_out_because(headers: Sequence[DicomHeader]) -> str | None:
    """Return why a series is no volume that anybody would segment, or None."""
    if all(header.modality in _NO_IMAGES or (header.pixels is None and not _should_be_image(header)) for header in headers):
        return f"it holds objects of the kind {_named({header.modality for header in headers})} and no images"
    if all(_is_secondary_capture(header) for header in headers):
        return "it holds secondary captures, such as screenshots, which have no place in the patient"
    if all(_is_localiser(header) for header in headers):
        return "it is a localiser"
    if all(header.modality in _PROJECTIONS and not _has_place(header) for header in headers):
        return (
            f"it holds images of the kind {_named({header.modality for header in headers})}, which have no place in the patient"
        )
    return None


def series_faults(where: str, headers: Sequence[DicomHeader]) -> list[Fault]:
    """Return every fault of a series that can be told before its images are put in order."""
    planes = [plane for header in headers for plane in header.planes]
    return [fault for rule in _RULES for fault in rule(where, headers)] + [
        fault for check in _OF_PLANES for fault in check(where, planes)
    ]


def _kinds(where: str, headers: Sequence[DicomHeader]) -> Iterator[Fault]:
    yield from _some(
        where, headers, lambda header: header.pixels is None, "have no pixels", "Copy them again, or move them elsewhere"
    )
    yield from _some(where, headers, _is_secondary_capture, "are secondary captures", "Move them to another series")
    yield from _some(where, headers, _is_localiser, "are localisers", "Move them to another series")
    yield from _some(where, headers, _is_mosaic, "are mosaics, which hold many slices side by side", _CONVERT)
    yield from _some(where, headers, lambda header: header.has_modality_table, "have a Modality LUT", _CONVERT)
    yield from _some(where, headers, lambda header: _is_of(header, _PARAMETRIC_MAP), "are parametric maps", _CONVERT)
    yield from _some(where, headers, _is_without_hounsfield, f"have unsigned values and state no {_RESCALE}", _GEOMETRY)
    modalities = {header.modality for header in headers}
    if len(modalities) > 1:
        yield Fault(where, f"its files have several modalities, {_named(modalities)}", "Export each as a series of its own")


def _storage(where: str, headers: Sequence[DicomHeader]) -> Iterator[Fault]:
    with_pixels = [header for header in headers if header.pixels]
    yield from _some(where, with_pixels, _is_coloured, "are not monochrome", "Give a series of grey values")
    for syntax in sorted(
        {header.pixels.transfer_syntax for header in with_pixels if header.pixels} - {"", *UNCOMPRESSED, *COMPRESSED}
    ):
        yield Fault(where, f"its transfer syntax {syntax[:64]} is not read", _CONVERT)
    bits = sorted({header.pixels.bits for header in with_pixels if header.pixels} - set(_BITS))
    if bits:
        yield Fault(where, f"its pixels have {_named(bits)} bits, and {_named(_BITS)} are read", _CONVERT)
    yield from _some(where, with_pixels, _is_short, "have fewer pixels than their header states", "Copy the files again")


def _one_volume(where: str, headers: Sequence[DicomHeader]) -> Iterator[Fault]:
    several = [header for header in headers if header.pixels and header.pixels.frames > 1]
    if several and len(headers) > 1:
        problem = f"it has {len(several)} multi-frame files among {len(headers)}, whose frames may belong to different volumes"
        yield Fault(where, problem, "Give each multi-frame file a series of its own")
    sizes = {(header.pixels.rows, header.pixels.columns) for header in headers if header.pixels}
    if len(sizes) > 1:
        shown = ", ".join(f"{rows} x {columns}" for rows, columns in sorted(sizes)[:4])
        yield Fault(where, f"its images have several sizes, {shown} (rows x columns)", _SPLIT)
    if len({header.origin.owner for header in headers}) > 1:
        yield Fault(where, "its files state several patients or studies, so they are no single acquisition", _SPLIT)
    if len({header.origin.frame_of_reference for header in headers}) > 1:
        yield Fault(where, "its images have several frames of reference, so their places cannot be compared", _SPLIT)


def _geometry_is_there(where: str, planes: Sequence[Plane]) -> Iterator[Fault]:
    lacking = {name: sum(getattr(plane, attribute) is None for plane in planes) for attribute, name in _NEEDED.items()}
    for number in sorted(set(lacking.values()) - {0}, reverse=True):
        names = ", ".join(name for name, count in lacking.items() if count == number)
        yield Fault(where, f"{number} of its {len(planes)} images have no usable {names}", _GEOMETRY)


def _all_or_none_state_units(where: str, planes: Sequence[Plane]) -> Iterator[Fault]:
    if any(plane.states_rescale for plane in planes):
        problem = f"state no {_RESCALE}, unlike the others"
        yield from _some(where, planes, lambda plane: not plane.states_rescale, problem, _GEOMETRY)


def _geometry_is_possible(where: str, planes: Sequence[Plane]) -> Iterator[Fault]:
    yield from _some(where, planes, _is_crooked, "have directions that are no unit vectors at a right angle", _GEOMETRY)
    yield from _some(
        where, planes, _has_impossible_spacing, f"have a spacing outside of {SMALLEST:g} to {LARGEST:g} mm", _GEOMETRY
    )
    yield from _some(where, planes, _is_far_away, f"lie more than {_FARTHEST:g} mm away", _GEOMETRY)
    yield from _some(
        where, planes, lambda plane: bool(plane.rescale and plane.rescale[0] == 0), "have a RescaleSlope of 0", _GEOMETRY
    )


def _same_grid(where: str, planes: Sequence[Plane]) -> Iterator[Fault]:
    turned = [plane.orientation for plane in planes if plane.orientation]
    if any(not is_same_direction(np.array(one), np.array(turned[0])) for one in turned):
        groups = len({tuple(np.round(one, 2) + 0.0) for one in turned})
        yield Fault(where, f"its images have mixed orientations, about {groups} different ones", _SPLIT)
    spacings = [plane.spacing for plane in planes if plane.spacing]
    if any(not is_same_spacing(one, spacings[0]) for one in spacings):
        low, high = min(spacings), max(spacings)
        yield Fault(where, f"its images have several pixel spacings, from {low[0]:.4g} to {high[0]:.4g} mm", _SPLIT)


_RESCALE = "RescaleSlope and RescaleIntercept (0028,1052)"
_NEEDED = {
    "position": "ImagePositionPatient (0020,0032)",
    "orientation": "ImageOrientationPatient (0020,0037)",
    "spacing": "PixelSpacing (0028,0030)",
    "rescale": _RESCALE,
}
_CONVERT = "Convert it to plain images, for example with dcmtk or dcm2niix"
_SPLIT = "Export each part as a series of its own"
_GEOMETRY = "Export the original images of the scanner"
_FARTHEST = 1e6  # mm; DICOM has no limit, but sums of larger numbers lose their fractions
_Rule = Callable[[str, Sequence[Any]], Iterable[Fault]]
_RULES: tuple[_Rule, ...] = (_kinds, _storage, _one_volume)
_OF_PLANES: tuple[_Rule, ...] = (_geometry_is_there, _all_or_none_state_units, _geometry_is_possible, _same_grid)


def _some(where: str, things: Sequence[Any], test: Callable[[Any], bool], problem: str, remedy: str) -> Iterator[Fault]:
    """Yield one fault where some of the files or images have a property."""
    number = sum(map(test, things))
    if number:
        kind = "files" if isinstance(things[0], DicomHeader) else "images"
        yield Fault(where, f"{number} of its {len(things)} {kind} {problem}", remedy)


def _is_short(header: DicomHeader) -> bool:
    return header.pixels is not None and not header.pixels.can_be_there


def _is_coloured(header: DicomHeader) -> bool:
    return header.pixels is not None and (header.pixels.samples != 1 or header.pixels.photometric not in _MONOCHROME)


def _is_without_hounsfield(header: DicomHeader) -> bool:
    """Whether a CT image states no units, and air, which has -1000, cannot be among its stored values."""
    if header.modality != "CT" or header.pixels is None or header.pixels.is_signed:
        return False
    return bool(header.planes) and not any(plane.states_rescale for plane in header.planes)


def _is_secondary_capture(header: DicomHeader) -> bool:
    return _is_of(header, _SECONDARY_CAPTURE)


def _should_be_image(header: DicomHeader) -> bool:
    """Whether an object without pixels has lost them."""
    return any(_is_of(header, kind) for kind in _CT_MR_AND_PET)


def _is_of(header: DicomHeader, kind: str) -> bool:
    return header.kind == kind or header.kind.startswith(f"{kind}.")


def _is_localiser(header: DicomHeader) -> bool:
    return "LOCALIZER" in header.image_type[2:]


def _is_mosaic(header: DicomHeader) -> bool:
    return "MOSAIC" in header.image_type[2:]


def _has_place(header: DicomHeader) -> bool:
    return any(plane.position is not None for plane in header.planes)


def _is_crooked(plane: Plane) -> bool:
    return plane.orientation is not None and not is_orientation(plane.orientation)


def _has_impossible_spacing(plane: Plane) -> bool:
    return plane.spacing is not None and not all(SMALLEST <= size <= LARGEST for size in plane.spacing)


def _is_far_away(plane: Plane) -> bool:
    return plane.position is not None and any(abs(place) > _FARTHEST for place in plane.position)


def _named(things: Iterable[object]) -> str:
    return listed(sorted(str(thing)[:20] for thing in things), 5)
