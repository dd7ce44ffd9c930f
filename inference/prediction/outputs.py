"""Write the outputs of a case. The segmentation comes last, so that its presence marks the case as complete."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs.dataset import DatasetDescription
from configs.errors import Fault, InputError, raise_faults
from configs.files import replacing
from configs.outputs import file_faults, name_faults
from inference.engine.assemble import Segmentation
from inference.outputs.dicom.segmentation import DicomOutput, write_segmentation
from inference.outputs.features.table import measure_features, write_features
from inference.outputs.quality_table import caption, write_quality
from inference.outputs.statistics import measure_labels, write_statistics
from inference.prediction.postprocessing import Postprocessing, postprocess
from preprocessing.dataset.by_products import DISAGREEMENT, ENTROPY, FEATURES, PREVIEW, PROBABILITIES, QUALITY, STATISTICS
from preprocessing.dicom.series import ENDING as SERIES
from preprocessing.formats.images import write_labels, write_scalar
from preprocessing.formats.pictures.colours import LOSSY, lossy_fault
from preprocessing.formats.registry import PICTURES, ending_of, stem_of
from preprocessing.geometry.affine import Geometry
from preprocessing.geometry.orientation import find_turn
from preprocessing.pages.drawn_image import drawn_image


@dataclass(frozen=True)
class Extras:
    """Outputs written beside a segmentation.

    Attributes:
        probabilities: whether to write `<case>_probabilities.npz` with `probabilities` (K, Z, Y, X) float32 on the image's grid and
            `names` (K,).
        uncertainty: whether to write the images `<case>_entropy` and `<case>_disagreement`, in bits; see `inference.engine.uncertainty`.
        preview: whether to write `<case>_preview.png`, slices with outlines, and `<case>_preview.html`, three planes to look through.
        statistics: whether to write `<case>_statistics.csv`; see `inference.outputs.statistics`.
        features: whether to write `<case>_features.csv`; see `inference.outputs.features`.
        dicom: how to write `<case>.dcm`, a DICOM segmentation, of cases that are DICOM series; None does not.
        roi: labels to keep; the others become background. None keeps all.
        postprocessing: rules applied to the labels before they are measured, drawn and written.
    """

    probabilities: bool = False
    uncertainty: bool = False
    preview: bool = False
    statistics: bool = False
    features: bool = False
    dicom: DicomOutput | None = None
    roi: tuple[str, ...] | None = None
    postprocessing: Postprocessing = Postprocessing()  # noqa: RUF009 - frozen

    @property
    def need_the_image(self) -> bool:
        """Whether an output needs the stored image."""
        return self.preview or self.statistics or self.features


def plan_outputs(cases: Mapping[str, tuple[Path, ...]], output: Path, extras: Extras | None = None) -> dict[str, Path]:
    """Return the path of each case's segmentation: the case's name with its image's ending, in the folder `output`.

    If `output` has the ending of an image file, it is the path of the only case's segmentation.

    Raises:
        InputError: several cases would share one file, a segmentation would replace an image, another case's extra output, or cannot be
            written, or the name of a case would lead out of the folder.
    """
    if ending_of(output):
        if len(cases) > 1:
            remedy = "Give a folder as output"
            raise InputError(Fault(str(output), f"one file cannot hold the segmentations of {len(cases)} cases", remedy))
        outputs = dict.fromkeys(cases, output)
    else:
        outputs = {case: output / f"{case}{_output_ending(files[0])}" for case, files in cases.items()}
    lossy = [lossy_fault(target) for target in outputs.values() if target.suffix.lower() in LOSSY]
    faults = [*name_faults("case", cases), *file_faults(*outputs.values()), *_clashing_extras(cases, extras or Extras()), *lossy]
    raise_faults(faults)
    sources = {file.resolve() for files in cases.values() for file in files}
    raise_faults(
        Fault(f"case `{case}`", f"the segmentation would replace the image {target}", "Choose another output folder")
        for case, target in outputs.items()
        if target.resolve() in sources
    )
    return outputs


def dicom_file(target: Path) -> Path:
    """Return the path of the DICOM segmentation beside a segmentation."""
    return target.with_name(f"{stem_of(target)}.dcm")


def _clashing_extras(cases: Mapping[str, tuple[Path, ...]], extras: Extras) -> list[Fault]:
    """Return a fault for each case whose segmentation has the name of an image that another case writes beside its own."""
    endings = (ENTROPY, DISAGREEMENT) if extras.uncertainty else ()
    return [
        Fault(
            f"case `{case}{ending}`",
            f"case `{case}` writes its extra output `{case}{ending}` to the same file",
            "Rename one of them",
        )
        for case in cases
        for ending in endings
        if f"{case}{ending}" in cases
    ]


def write_case(
    target: Path,
    segmentation: Segmentation,
    image: NDArray[np.float32] | None,
    geometry: Geometry,
    like: Path,
    description: DatasetDescription,
    extras: Extras,
) -> None:
    """Write all outputs of one case, each file atomically, with exactly the geometry of the image file `like`.

    The stored image (C, Z, Y, X) serves preview, statistics and features; it is None if none of them is requested.
    """
    if extras.postprocessing != Postprocessing():
        turn = find_turn(geometry, "canonical")  # so that the order of storage does not decide between components of one size
        cleaned = postprocess(turn.apply(segmentation.labels), geometry.voxel_volume, extras.postprocessing, description)
        segmentation = replace(segmentation, labels=np.ascontiguousarray(turn.invert(cleaned)))
    target.parent.mkdir(parents=True, exist_ok=True)
    name, ending = stem_of(target), ending_of(target) or ".nii.gz"
    if segmentation.probabilities is not None:
        _write_probabilities(target.with_name(f"{name}{PROBABILITIES}.npz"), segmentation.probabilities, description, extras.roi)
    for by_product, volume in ((ENTROPY, segmentation.entropy), (DISAGREEMENT, segmentation.disagreement)):
        if volume is not None:
            kept = ".tif" if ending in PICTURES else ending  # pictures hold no fractions
            write_scalar(target.with_name(f"{name}{by_product}{kept}"), volume, geometry, like)
    if extras.preview and image is not None:
        _write_preview(target.with_name(f"{name}{PREVIEW}.png"), image, geometry, segmentation, description)
        _write_viewer(target.with_name(f"{name}{PREVIEW}.html"), name, image, geometry, segmentation, description)
    if extras.statistics and image is not None:
        measured = measure_labels(segmentation.labels, image, geometry, description, extras.roi, segmentation.quality)
        write_statistics(target.with_name(f"{name}{STATISTICS}.csv"), {name: measured})
    if extras.features and image is not None:
        features = measure_features(segmentation.labels, image, geometry, description, extras.roi)
        write_features(target.with_name(f"{name}{FEATURES}.csv"), name, features)
    quality = target.with_name(f"{name}{QUALITY}.csv")
    if segmentation.quality is None:
        quality.unlink(missing_ok=True)  # of an earlier prediction
    else:
        write_quality(quality, name, segmentation.quality)
    if extras.dicom is not None:
        labels, expected = segmentation.labels, segmentation.quality
        write_segmentation(dicom_file(target), labels, like, description, extras.dicom, expected, extras.roi)
    elif ending_of(like) == SERIES:
        dicom_file(target).unlink(missing_ok=True)  # of an earlier prediction
    write_labels(target, segmentation.labels, geometry, like)


def _write_probabilities(
    path: Path, probabilities: NDArray[np.float32], description: DatasetDescription, roi: tuple[str, ...] | None
) -> None:
    names = np.array(description.foreground if description.has_regions else ("background", *description.foreground))
    kept = np.flatnonzero(np.isin(names, roi)) if roi is not None else np.arange(len(names))
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, probabilities=probabilities[kept] if roi is not None else probabilities, names=names[kept])


def _write_preview(
    path: Path, image: NDArray, geometry: Geometry, segmentation: Segmentation, description: DatasetDescription
) -> None:
    from inference.outputs.preview import montage  # matplotlib is slow to import and seldom needed

    turn = find_turn(geometry, "canonical")
    names = {value: name for name, value in description.labels.items() if isinstance(value, int)}
    spacing, labels = turn.apply_geometry(geometry).spacing, turn.apply(segmentation.labels)
    shown = drawn_image(turn.apply(image), description)
    montage(shown, labels, path, spacing=spacing, names=names, caption=caption(segmentation.quality))


def _write_viewer(
    path: Path, case: str, image: NDArray, geometry: Geometry, segmentation: Segmentation, description: DatasetDescription
) -> None:
    from inference.outputs.viewer.page import write_viewer  # seldom needed, as above

    write_viewer(path, case, image, segmentation.labels, geometry, description, caption(segmentation.quality))


def _output_ending(image: Path) -> str:
    """Return the ending of a segmentation: that of its image, but one that keeps all values and can be written, in a single file."""
    ending = ending_of(image) or ".nii.gz"
    return {".nhdr": ".nrrd", ".mhd": ".mha", ".jpg": ".png", ".jpeg": ".png", SERIES: ".nii.gz"}.get(ending, ending)
