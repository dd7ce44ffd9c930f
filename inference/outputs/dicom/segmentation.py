"""Write the segmentation of a series as a DICOM segmentation object (PS3.3 A.51 and C.8.20) that refers to the series.

The object holds what the series says about the patient, as DICOM demands. Nothing else that is written does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from configs.dataset import Code, DatasetDescription, LabelCode
from configs.errors import Fault, InputError
from configs.files import replacing
from inference.sizes.quality import Quality
from preprocessing.dicom.library import NoDicomError, parse, require_library, unchecked, unparsable
from preprocessing.dicom.series import ENDING, SeriesList, sources_of

if TYPE_CHECKING:
    from highdicom.seg import SegmentDescription
    from pydicom.dataset import Dataset

SegmentationKind = Literal["binary", "labelmap"]
KINDS: tuple[SegmentationKind, ...] = ("binary", "labelmap")
_SOFTWARE, _PRIVATE = "se-unet", "99SE_UNET"  # the private scheme of labels without codes
_LABEL = Code(value="LABEL", scheme=_PRIVATE, meaning="Label of a dataset")
_SERIES_NUMBER = 9000  # beyond those of scanners
_LONGEST_NAME, _LONGEST_TEXT = 64, 1024  # characters of DICOM's LO and ST
_DIGEST = 16  # letters of the model's checksum
_OF_PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")  # these and the next must be there, but may be empty
_OF_STUDY = ("AccessionNumber", "ReferringPhysicianName", "StudyID", "StudyDate", "StudyTime", "PositionReferenceIndicator")


@dataclass(frozen=True)
class DicomOutput:
    """How segmentations are written as DICOM objects."""

    kind: SegmentationKind = "binary"  # one plane of bits for each label, or one map with the numbers of labels
    model: str = ""  # SHA-256 of plans and weights of the models that segmented


@dataclass(frozen=True)
class LabelSegment:
    """One label, or one region, of a segmentation."""

    name: str  # name of the label
    values: tuple[int, ...]  # values of its voxels


def segments_of(description: DatasetDescription, roi: Sequence[str] | None) -> list[LabelSegment]:
    """Return the segments of a dataset's segmentations; `roi` names the labels that were kept, None all."""
    kept = [name for name in description.foreground if roi is None or name in roi]
    values = {name: description.labels[name] for name in kept}
    return [LabelSegment(name, (value,) if isinstance(value, int) else value) for name, value in values.items()]


def kind_faults(output: DicomOutput | None, description: DatasetDescription) -> list[Fault]:
    """Return a fault where segmentations of a dataset cannot be written in the chosen way."""
    if output is None or output.kind != "labelmap" or not description.has_regions:
        return []
    return [Fault("--dicom labelmap", "the model has regions, which overlap", "Choose --dicom binary")]


def write_segmentation(
    path: Path,
    labels: NDArray[np.integer],
    listed: Path,
    description: DatasetDescription,
    output: DicomOutput,
    quality: Quality | None = None,
    roi: Sequence[str] | None = None,
) -> None:
    """Write a segmentation object, whole or not at all.

    The label values (Z, Y, X) lie on the grid of the series that `listed` lists. The segments are described by their expected Dice, where
    the models are calibrated; `roi` names the labels that were kept, None all.

    Raises:
        InputError: the series has changed, or lacks what a segmentation object needs.
    """
    require_library()
    try:
        with unchecked():
            made = _segmentation(labels, SeriesList.read(listed), description, output, quality, roi)
            with replacing(path) as temporary:
                made.save_as(temporary)
    except (OSError, InputError):
        raise
    except unparsable() as error:
        where = f"series `{listed.name.removesuffix(ENDING)}`"
        reason = str(error) if isinstance(error, (NoDicomError, AttributeError)) else type(error).__name__
        remedy = "Check the series with a validator such as dciodvfy, or leave out --dicom"
        raise InputError(Fault(where, f"no DICOM segmentation can be made of it ({reason})", remedy)) from None


def _segmentation(
    labels: NDArray[np.integer],
    listed: SeriesList,
    description: DatasetDescription,
    output: DicomOutput,
    quality: Quality | None,
    roi: Sequence[str] | None,
) -> "Dataset":
    from highdicom.seg import Segmentation
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    segments = segments_of(description, roi)
    model = output.model[:_DIGEST] or "unknown"
    return Segmentation(
        source_images=[_completed(parse(content)[0], listed) for content in sources_of(listed)],
        pixel_array=_in_order_of_frames(_segment_numbers(labels, segments, description.has_regions), listed),
        segmentation_type=output.kind.upper(),
        segment_descriptions=_descriptions(segments, description, output, quality),
        series_instance_uid=generate_uid(prefix=None),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=generate_uid(prefix=None),
        instance_number=1,
        manufacturer=_SOFTWARE,
        manufacturer_model_name=_SOFTWARE,
        software_versions=version(_SOFTWARE),
        device_serial_number=model,
        content_label="SEGMENTATION",
        content_description=f"Model {model}{_mean_in_words(quality)}"[:_LONGEST_NAME],
        series_description=f"Segmentation by {_SOFTWARE}",
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )


def _completed(image: "Dataset", listed: SeriesList) -> "Dataset":
    """An image of the series with what a segmentation object takes from it; de-identified files may lack some of it."""
    for keyword in (*_OF_PATIENT, *_OF_STUDY):
        if keyword not in image:
            setattr(image, keyword, "")
    if "SliceThickness" not in image:
        image.SliceThickness = round(float(np.linalg.norm(np.array(listed.affine)[:3, 2])), 6)
    return image


def _segment_numbers(labels: NDArray[np.integer], segments: Sequence[LabelSegment], do_overlap: bool) -> NDArray[np.integer]:
    """Numbers of segments (Z, Y, X), 1 for the first; masks (Z, Y, X, segments) where segments overlap."""
    if do_overlap:
        return np.stack([np.isin(labels, segment.values) for segment in segments], axis=-1).astype(np.uint8)
    numbers = np.zeros(labels.shape, dtype=np.uint8 if len(segments) < 256 else np.uint16)
    for number, segment in enumerate(segments, start=1):
        numbers[np.isin(labels, segment.values)] = number
    return numbers


def _in_order_of_frames(array: NDArray, listed: SeriesList) -> NDArray:
    """Slices of one multi-frame file are in the order of its frames, those of single files in the order of the files."""
    if len({plane.file for plane in listed.planes}) > 1:
        return array
    return array[np.argsort([plane.frame for plane in listed.planes])]


def _descriptions(
    segments: Sequence[LabelSegment], description: DatasetDescription, output: DicomOutput, quality: Quality | None
) -> "list[SegmentDescription]":
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentDescription
    from pydicom.sr.codedict import codes

    algorithm = AlgorithmIdentificationSequence(
        name=_SOFTWARE,
        family=codes.DCM.ArtificialIntelligence,
        version=version(_SOFTWARE),
        parameters={"model": output.model or "unknown"},
    )
    made = []
    for number, segment in enumerate(segments, start=1):
        code = description.codes.get(segment.name) or _private_code(segment)
        one = SegmentDescription(
            segment_number=number,
            segment_label=segment.name[:_LONGEST_NAME],
            segmented_property_category=_coded(code.category),
            segmented_property_type=_coded(code),
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
        )
        one.SegmentDescription = _in_words(segment, quality)[:_LONGEST_TEXT]
        made.append(one)
    return made


def _private_code(segment: LabelSegment) -> LabelCode:
    name = "".join(letter for letter in segment.name if letter.isprintable() and letter != "\\")[:_LONGEST_NAME] or "label"
    return LabelCode(value="-".join(map(str, segment.values))[:16], scheme=_PRIVATE, meaning=name, category=_LABEL)


def _coded(code: Code) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning)


def _in_words(segment: LabelSegment, quality: Quality | None) -> str:
    values = " and ".join(map(str, segment.values))
    expected: Mapping[str, Any] = {} if quality is None else quality.expected
    if segment.name not in expected:
        return f"Label value {values}; expected Dice not calibrated"
    one = expected[segment.name]
    return f"Label value {values}; " + (
        "not found" if one is None else f"expected Dice {one.dice:.2f} ({one.low:.2f} to {one.high:.2f})"
    )


def _mean_in_words(quality: Quality | None) -> str:
    return "" if quality is None else f", expected Dice {quality.mean:.2f}"
