"""Readers of files. Each has a small corpus of sound files, a strategy that damages them, and a call that must keep the rules."""

import gzip
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from tests.fuzz.damage import Files, damaged, damaged_gzip, damaged_json, damaged_safetensors, packed, unpacked


@dataclass(frozen=True)
class Target:
    """One reader.

    Attributes:
        name: name of the reader.
        file: name of the damaged file.
        corpus: function that returns the contents of sound files; it may write into a given folder.
        damage: function that returns a strategy of damaged files for a list of sound ones.
        read: function that reads the file at a path; it may raise `InputError`.
        share: share of all inputs, relative to other readers.
    """

    name: str
    file: str
    corpus: Callable[[Path], list[bytes]]
    damage: Callable[[Sequence[bytes]], Files]
    read: Callable[[Path], object]
    share: float = 1.0


def _images(ending: str) -> Callable[[Path], list[bytes]]:
    """Return a function that writes labels, a scalar image and an image with channels, each of 210 voxels."""

    def make(folder: Path) -> list[bytes]:
        from preprocessing.formats.images import write_labels, write_scalar
        from preprocessing.geometry.affine import Geometry

        geometry = Geometry.from_spacing((5, 6, 7), (3.0, 1.5, 1.25))
        values = np.random.default_rng(0).integers(0, 4, (5, 6, 7))
        write_labels(folder / f"labels{ending}", values.astype(np.uint8), geometry)
        write_scalar(folder / f"scalar{ending}", (values / 3).astype(np.float32), geometry)
        made = [folder / f"labels{ending}", folder / f"scalar{ending}"]
        if ending in (".nrrd", ".mha"):
            made += _other_itk(folder, ending, values)
        if ending == ".tif":
            made += [_stated_axes(folder, values), _colours(folder, values)]
        return [path.read_bytes() for path in made]

    return make


def _other_itk(folder: Path, ending: str, values: np.ndarray) -> list[Path]:
    """Write an uncompressed image, and an image with several channels."""
    import SimpleITK

    plain, channels = folder / f"plain{ending}", folder / f"channels{ending}"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(values.astype(np.int16)), str(plain), useCompression=False)
    vector = SimpleITK.GetImageFromArray(np.stack([values, values], 3).astype(np.float32), isVector=True)
    SimpleITK.WriteImage(vector, str(channels), useCompression=False)
    return [plain, channels]


def _stated_axes(folder: Path, values: np.ndarray) -> Path:
    """A stack whose axes are stated as ImageJ does."""
    import tifffile

    tifffile.imwrite(folder / "stated.tif", values.astype(np.uint8), imagej=True, metadata={"axes": "ZYX"})
    return folder / "stated.tif"


def _colours(folder: Path, values: np.ndarray) -> Path:
    """A picture with colours and an opaque alpha channel."""
    import tifffile

    samples = np.dstack([*values[:3], np.full(values.shape[1:], 255)]).astype(np.uint8)
    tifffile.imwrite(folder / "colours.tif", samples, photometric="rgb", extrasamples=["unassalpha"])
    return folder / "colours.tif"


def _pictures(ending: str) -> Callable[[Path], list[bytes]]:
    """Return a function that writes grey values, colours, and what else the format has: a palette, alpha, 16 bits, an EXIF header."""

    def make(folder: Path) -> list[bytes]:
        from PIL import Image

        values = np.random.default_rng(0).integers(0, 4, (9, 11, 4), np.uint8)
        made = [Image.fromarray(values[..., 0]), Image.fromarray(values[..., :3])]
        if ending != ".jpg":
            made += [made[0].convert("P"), Image.fromarray(values[..., 0] > 1)]
        if ending == ".png":
            made += [Image.fromarray(values + np.uint8(252)), Image.fromarray(values[..., 0].astype(np.uint16))]
        exif = Image.Exif()
        exif[0x0112] = 1
        for index, picture in enumerate(made):
            picture.save(folder / f"{index}{ending}", **({} if ending == ".bmp" else {"exif": exif}))
        return [(folder / f"{index}{ending}").read_bytes() for index in range(len(made))]

    return make


def _nifti(folder: Path) -> list[bytes]:
    """Return NIfTI-1 and NIfTI-2, both byte orders, scaled intensities, four axes, and two forms in micrometres; not compressed."""
    import nibabel

    array = np.arange(210, dtype=np.int16).reshape(7, 6, 5)
    first = nibabel.Nifti1Image(array, np.diag([1.25, 1.5, 3, 1]))
    swapped = nibabel.Nifti1Image(array, np.eye(4), first.header.as_byteswapped(">"))
    swapped.header.set_slope_inter(2, -7)
    channels = nibabel.Nifti1Image(np.stack([array, array], 3).astype(np.float32), np.eye(4))
    both = nibabel.Nifti1Image(array, np.diag([-125, -150, 300, 1]))
    both.set_qform(both.affine, 1)
    both.header.set_xyzt_units("micron")
    return [image.to_bytes() for image in (first, swapped, channels, both, nibabel.Nifti2Image(array, np.eye(4)))]


def _read_image(path: Path) -> None:
    from preprocessing.formats.images import doubts, read_header, read_image, read_labels

    try:
        read_header(path)
    finally:
        read_image([path])
    doubts([path])
    read_labels(path)


def _read_detached(path: Path) -> None:
    """Read a header whose voxels lie in another file of the same folder."""
    (path.parent / "labels.raw").write_bytes(bytes(210))
    (path.parent / "labels.zraw").write_bytes(gzip.compress(bytes(210)))
    _read_image(path)


def _detached(folder: Path) -> list[bytes]:
    meta = "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = {packed}\n{more}"
    meta += "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\nElementSpacing = 1.25 1.5 3\nDimSize = 7 6 5\n"
    meta += "ElementType = MET_UCHAR\nElementDataFile = {file}\n"
    return [
        meta.format(packed="False", more="", file="labels.raw").encode(),
        meta.format(packed="True", more="CompressedDataSize = 33\n", file="labels.zraw").encode(),
    ]


def _detached_nrrd(folder: Path) -> list[bytes]:
    text = "NRRD0004\ntype: uchar\ndimension: 3\nspace: left-posterior-superior\nsizes: 7 6 5\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n"
    text += "kinds: domain domain domain\nencoding: {encoding}\nspace origin: (0,0,0)\ndata file: {file}\n"
    units = 'space units: "mm" "mm" "mm"\n'
    return [
        text.format(encoding="raw", file="labels.raw").encode(),
        text.format(encoding="gzip", file="labels.zraw").encode(),
        text.replace("kinds:", f"{units}kinds:").format(encoding="raw", file="labels.raw").encode(),
    ]


def _read_tiff(path: Path) -> None:
    path.with_suffix(".json").write_text('{"spacing": [3, 1.5, 1.25]}')
    _read_image(path)


def _dataset_json(folder: Path) -> list[bytes]:
    contents = [
        {"channel_names": {"0": "CT", "1": "PET"}, "labels": {"background": 0, "a": 1, "b": 2}, "file_ending": ".nii.gz"},
        {"channel_names": {"0": "T1"}, "labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2]},
        {
            "modality": {"0": "MR"},
            "labels": {"0": "background", "1": "a"},
            "training": [{"image": "i.nii.gz", "label": "l.nii.gz"}],
        },
        {
            "channel_names": {"0": "x"},
            "labels": {"background": 0, "a": 1, "ignore": 2},
            "dataset": {"case": {"images": ["i.nii.gz"], "label": "l.nii.gz"}},
            "file_ending": ".nrrd",
        },
        {
            "channel_names": {"0": "x"},
            "labels": {"background": 0, "a": 1, "b": 2},
            "dataset": {"case": {"images": ["i.nii.gz"], "label": "l.nii.gz"}},
            "annotated": {"case": ["a"]},
        },
    ]
    return [json.dumps(content).encode() for content in contents]


def _read_dataset(path: Path) -> None:
    from preprocessing.dataset.raw import open_dataset

    for folder in ("imagesTr", "labelsTr"):
        (path.parent / folder).mkdir(exist_ok=True)
    for name in ("imagesTr/c_0000.nii.gz", "imagesTr/c_0001.nii.gz", "labelsTr/c.nii.gz", "i.nii.gz", "l.nii.gz"):
        (path.parent / name).touch()
    open_dataset(path.parent)


def _annotated(folder: Path) -> list[bytes]:
    return [b"case,label\ncase_1,a\ncase_2,b\n", '\ufeffcase,label\r\n"case_1","a"\r\n'.encode()]


def _read_annotated(path: Path) -> None:
    from preprocessing.dataset.annotated import read_annotated
    from tests.inference.models import LABELS

    read_annotated(path.parent, {}, LABELS)


def _plans_of_nnunet(folder: Path) -> list[bytes]:
    from tests.inference.bundle.nnunet.results import plans

    return [json.dumps(plans()).encode(), json.dumps(plans(transpose_forward=[2, 0, 1])).encode()]


def _read_plans_of_nnunet(path: Path) -> None:
    from configs.dataset import DatasetDescription
    from planners.decision import Decision
    from planners.rules.nnunet_plans import plan_as_nnunet
    from planners.rules.size_range import choose_size_range

    description = DatasetDescription(name="x", channels=("CT", "MR"), labels={"background": 0, "a": 1, "b": 2})
    plan_as_nnunet(path, description, Decision(choose_size_range({}).value, ""))


def _plan_json(folder: Path) -> list[bytes]:
    from tests.inference.models import many_classes, plan

    return [plan(scheme="zscore").model_dump_json().encode(), plan(many_classes(3)).model_dump_json().encode()]


def _read_plan(path: Path) -> None:
    """Read the file as the plan of a dataset and as the plan of a model."""
    from configs.plan import ModelPlan, Plan

    Plan.read(path)
    ModelPlan.read(path)


def _calibrations(folder: Path) -> list[bytes]:
    from inference.sizes.calibrate import calibrate
    from tests.inference.sizes.test_calibration import RANGE, looks

    made = calibrate([looks(4, 1.0)], RANGE)
    return [] if made is None else [made.model_copy(update={"points": made.points[:3]}).model_dump_json().encode()]


def _read_calibration(path: Path) -> None:
    """Read the file and use it for images that look as usual, small, and empty."""
    from inference.sizes.calibration import Calibration, Evidence
    from inference.sizes.quality import judge
    from inference.sizes.search import find_factor

    calibration = Calibration.read(path)
    number = len(calibration.labels)
    for value in (0.9, 0.3, 0.0):
        evidence = Evidence(np.full(number, value), np.full(number, value), np.full(number, 10 * value))
        find_factor(calibration, evidence, lambda factor, evidence=evidence: evidence, forced=True)
        judge(calibration, evidence, 1.0)


def _looks_json(folder: Path) -> list[bytes]:
    from tests.inference.sizes.test_calibration import looks

    return [looks(2, 1.0).model_dump_json().encode()]


def _read_looks(path: Path) -> None:
    from inference.sizes.calibrate import calibrate
    from inference.sizes.measure import Looks
    from tests.inference.sizes.test_calibration import RANGE

    found = Looks.read(path)
    calibrate([found, found], RANGE)


def _splits_json(folder: Path) -> list[bytes]:
    return [json.dumps([{"train": ["a", "b"], "val": ["c"]}, {"train": ["c", "b"], "val": ["a"]}]).encode()]


def _read_splits(path: Path) -> None:
    from preprocessing.dataset.splits import choose_split

    choose_split(path, 0, ["a", "b", "c"])


def _training_json(folder: Path) -> list[bytes]:
    from configs.training import TrainingConfig

    return [TrainingConfig().model_dump_json().encode(), b'{"epochs": 5, "class_weights": {"a": 2.0}}']


def _read_training(path: Path) -> None:
    from configs.training import load_training_config

    load_training_config(str(path), {"seed": 1})


def _weights(folder: Path) -> list[bytes]:
    import torch
    from safetensors.torch import save

    from se_unet.builder import build_network
    from tests.inference.models import plan

    torch.manual_seed(0)
    network = build_network(plan().network("3d_fullres", "baseline").network)
    return [save(network.state_dict()), save({"a": torch.zeros(3, 2), "b": torch.ones(1, dtype=torch.int64)})]


def _read_weights(path: Path) -> None:
    """Read the header as the check of bundles does, then load the weights into a network."""
    from configs.errors import Fault, InputError
    from inference.bundle.tensors import tensor_shapes
    from se_unet.builder import build_network
    from se_unet.weights import load_weights
    from tests.inference.models import plan

    try:
        with path.open("rb") as stream:
            tensor_shapes(stream, path.stat().st_size)
    except ValueError as error:
        raise InputError(Fault(str(path), str(error), "none")) from error
    finally:
        load_weights(build_network(plan().network("3d_fullres", "baseline").network), path)


def _bundles(folder: Path) -> list[bytes]:
    from inference.bundle.export import export_bundle
    from tests.inference.models import write_model

    export_bundle(write_model(folder / "model", ("0",)), folder / "toy.zip")
    return [(folder / "toy.zip").read_bytes()]


@st.composite
def _damaged_bundle(draw: st.DrawFn, sound: Sequence[bytes]) -> bytes:
    """Damage the bytes, or one of the files with a matching manifest, so that the damage reaches later checks."""
    content = draw(st.sampled_from(sound))
    kind = draw(st.integers(0, 4))
    if kind < 2:
        start = content.rindex(b"PK\x01\x02") if kind else 0
        return content[:start] + draw(damaged([content[start:]]))
    files = unpacked(content)
    name = draw(st.sampled_from(["plan.json", *sorted(files.keys() - {"manifest.json"})]))
    damage = damaged_safetensors if name.endswith(".safetensors") else damaged_json if name.endswith(".json") else damaged
    files[name] = draw(damage([files[name]]))
    manifest = json.loads(files["manifest.json"])
    manifest["files"][name] = {"bytes": len(files[name]), "sha256": hashlib.sha256(files[name]).hexdigest()}
    files["manifest.json"] = json.dumps(manifest).encode()
    if draw(st.integers(0, 9)) == 9:
        files["manifest.json"] = draw(damaged_json([files["manifest.json"]]))
    return packed(files)


def _read_bundle(path: Path) -> None:
    """Import the bundle. The unpacked folder is removed when the folder is emptied."""
    from inference.bundle.install import import_bundle

    import_bundle(path, path.parent / "imported")


def _results_of_nnunet(folder: Path) -> list[bytes]:
    from tests.inference.bundle.nnunet.results import write_archive, write_results

    chosen = write_results(folder / "results") / "nnUNetTrainer__nnUNetPlans__3d_fullres" / "crossval_results_folds_0"
    chosen.mkdir()
    step = "remove_all_but_largest_component_from_segmentation"
    steps = {"postprocessing_fns": [step], "postprocessing_kwargs": [{"labels_or_regions": [1, 2]}]}
    (chosen / "postprocessing.json").write_text(json.dumps(steps))
    return [write_archive(folder / "results", folder / "export.zip").read_bytes()]


@st.composite
def _damaged_results(draw: st.DrawFn, sound: Sequence[bytes]) -> bytes:
    """Damage the archive, or one of its files with a matching checksum."""
    content = draw(st.sampled_from(sound))
    if draw(st.integers(0, 3)) == 3:
        return draw(damaged([content]))
    files = unpacked(content)
    name = draw(st.sampled_from([*files, *[name for name in files if name.endswith(".json")] * 2]))
    if name.endswith(".pth"):
        return packed(files | {name: draw(_damaged_checkpoint([files[name]]))})
    return packed(files | {name: draw(damaged_json([files[name]]))})


def _read_results(path: Path) -> None:
    from inference.bundle.nnunet.install import import_nnunet

    import_nnunet(path, path.parent / "imported")


def _checkpoints(folder: Path) -> list[bytes]:
    import torch

    from trainers.optimisation.checkpoint import _FORMAT

    content = {"format": _FORMAT, "state": {"epoch": 2}, "network": {"a": torch.zeros(3)}}
    torch.save(content, folder / "new.pt")
    torch.save(content, folder / "old.pt", _use_new_zipfile_serialization=False)
    return [(folder / "new.pt").read_bytes(), (folder / "old.pt").read_bytes()]


@st.composite
def _damaged_checkpoint(draw: st.DrawFn, sound: Sequence[bytes]) -> bytes:
    """Damage the bytes, or one of the files, mostly the pickle, with a matching checksum."""
    content = draw(st.sampled_from(sound))
    if not content.startswith(b"PK") or draw(st.integers(0, 2)) == 2:
        return draw(damaged(sound))
    files = unpacked(content)
    name = draw(st.sampled_from([*[name for name in files if name.endswith("data.pkl")] * 5, *files]))
    return packed(files | {name: draw(damaged([files[name]]))})


def _read_checkpoint(path: Path) -> None:
    from trainers.optimisation.checkpoint import epochs_done

    epochs_done(path)


def _lists(folder: Path) -> list[bytes]:
    return [b"a_0000.nii.gz\nb.nii.gz, c.nii.gz\n# note\n", b"a.nii.gz\tb.nii.gz\n"]


def _read_list(path: Path) -> None:
    from inference.prediction.case_list import list_cases
    from preprocessing.dataset.splits import read_groups
    from tests.inference.models import LABELS

    try:
        list_cases(path, LABELS)
    finally:
        read_groups(path)


def _listed_json(folder: Path) -> list[bytes]:
    return [json.dumps({"a": ["a_0000.nii.gz"], "b": ["b.nii.gz"]}).encode(), json.dumps({"c0": "A", "c1": 2}).encode()]


def _groups(folder: Path) -> list[bytes]:
    """Of an editor and of a spreadsheet."""
    return [b"case,group\nc0,A\nc1,A\nc2,B\n", '\ufeffc0,A\r\n"c1","B, C"\r\n'.encode(), "c0,A\n".encode("utf-16")]


def _spacing_json(folder: Path) -> list[bytes]:
    return [b'{"spacing": [3, 1.5, 1.25]}', b'\xef\xbb\xbf{"spacing": [1, 1, 1], "by": {"hand": true}}']


def _read_spacing(path: Path) -> None:
    import tifffile

    tifffile.imwrite(path.with_suffix(".tif"), np.zeros((4, 5, 6), np.uint8), photometric="minisblack")
    _read_image(path.with_suffix(".tif"))


def _training_log(folder: Path) -> list[bytes]:
    return [b"epoch,learning_rate,training_loss\n1,0.01,-0.5\n2,0.009,\n"]


def _read_log(path: Path) -> None:
    from inference.report.trained import _read_log

    _read_log(path)


def _stored(folder: Path) -> list[bytes]:
    from preprocessing.store import CaseProperties
    from tests.trainers.balls import write_work

    write_work(folder / "work")
    made = folder / "work/Balls/preprocessed/3d_fullres"
    CaseProperties.read(made / "case_0.json")
    return [(made / "case_0.json").read_bytes()]


def _read_stored(path: Path) -> None:
    from preprocessing.store import CaseProperties

    _ = CaseProperties.read(path).trace.geometry


def _predictions(folder: Path) -> list[bytes]:
    from tests.inference.models import LABELS

    return [LABELS.model_dump_json().encode(), json.dumps({"dataset": LABELS.model_dump(mode="json")}).encode()]


def _read_description(path: Path) -> None:
    from inference.evaluation.label_files import load_description

    load_description(path)


def _dicom(folder: Path) -> list[bytes]:
    """Return single images, uncompressed, run-length encoded, by JPEG-LS and JPEG 2000, frames in one file, and a segmentation."""
    from pydicom.data import get_testdata_file
    from pydicom.uid import JPEGLSLossless, RLELossless

    from tests.preprocessing.dicom.making import affine_of, multi_frame, rotation, slices, volume
    from tests.preprocessing.dicom.test_dataset import drawn, segmentation

    affine = affine_of((0.7, 0.9, 2.5), rotation(), (1, 2, 3))
    (plain, packed, near), frames = slices(volume((3, 9, 7)), affine), multi_frame(volume(), affine, "1.2.3")
    packed.compress(RLELossless, generate_instance_uid=False)
    near.compress(JPEGLSLossless, generate_instance_uid=False)
    (folder / "frames").mkdir()
    frames.save_as(folder / "frames" / "x", enforce_file_format=True)
    made = [plain, packed, near, frames, segmentation(folder / "frames", drawn(), ("spleen", "liver"))]
    for number, dataset in enumerate(made):
        dataset.save_as(folder / str(number), enforce_file_format=True)
    jpeg_2000 = Path(str(get_testdata_file("MR_small_jp2klossless.dcm", download=False))).read_bytes()
    return [*((folder / str(number)).read_bytes() for number in range(len(made))), jpeg_2000]


def _read_dicom(path: Path) -> None:
    """Read the file as a folder's only image and as a segmentation."""
    from configs.errors import Fault, InputError
    from preprocessing.dicom.find import find_series, write_lists
    from preprocessing.dicom.library import NoDicomError
    from preprocessing.dicom.segments import labels_of, read_segmentation
    from preprocessing.dicom.source import source_of
    from preprocessing.formats.images import read_image
    from preprocessing.geometry.affine import Geometry
    from tests.preprocessing.dicom.making import affine_of, rotation

    found = find_series(path)
    for listed in write_lists(found.series, path.parent).values():
        read_image(listed)
    if path.name == "image":
        try:
            file = read_segmentation(source_of(path), "")
        except NoDicomError as error:
            raise InputError(Fault(str(path), str(error), "none")) from error
        if file is not None:
            grid = Geometry.from_affine((6, 9, 7), affine_of((0.7, 0.9, 2.5), rotation(), (1, 2, 3)))
            labels_of(str(path), file, grid, dict.fromkeys((one.number for one in file.segments), 1))
    if found.faults:
        raise InputError(*found.faults)


def _dicom_archive(folder: Path) -> list[bytes]:
    from tests.preprocessing.dicom.making import affine_of, save, slices, volume, zipped

    save(slices(volume((3, 9, 7)), affine_of((0.7, 0.9, 2.5), np.eye(3), (1, 2, 3))), folder / "series")
    return [zipped(folder / "series", folder / "export.zip").read_bytes()]


TARGETS = (
    Target("NIfTI", "case.nii", _nifti, damaged, _read_image, 2),
    Target("NIfTI, compressed", "case.nii.gz", _nifti, damaged_gzip, _read_image, 2),
    Target("NRRD", "case.nrrd", _images(".nrrd"), damaged, _read_image, 2),
    Target("MetaImage", "case.mha", _images(".mha"), damaged, _read_image, 2),
    Target("MetaImage, detached", "case.mhd", _detached, damaged, _read_detached),
    Target("NRRD, detached", "case.nhdr", _detached_nrrd, damaged, _read_detached),
    Target("GIPL", "case.gipl", _images(".gipl"), damaged, _read_image),
    Target("TIFF", "case.tif", _images(".tif"), damaged, _read_tiff),
    Target("PNG", "case.png", _pictures(".png"), damaged, _read_image),
    Target("JPEG", "case.jpg", _pictures(".jpg"), damaged, _read_image),
    Target("BMP", "case.bmp", _pictures(".bmp"), damaged, _read_image, 0.5),
    Target("DICOM", "image", _dicom, damaged, _read_dicom, 2),
    Target("DICOM in a ZIP file", "export.zip", _dicom_archive, damaged, _read_dicom),
    Target("dataset.json", "dataset.json", _dataset_json, damaged_json, _read_dataset),
    Target("plan.json", "plan.json", _plan_json, damaged_json, _read_plan),
    Target("annotated labels", "annotated.csv", _annotated, damaged, _read_annotated, 0.5),
    Target("plans of nnU-Net", "nnUNetPlans.json", _plans_of_nnunet, damaged_json, _read_plans_of_nnunet),
    Target("splits.json", "splits.json", _splits_json, damaged_json, _read_splits),
    Target("calibration", "calibration.json", _calibrations, damaged_json, _read_calibration, 0.5),
    Target("looks", "looks.json", _looks_json, damaged_json, _read_looks, 0.5),
    Target("training.json", "training.json", _training_json, damaged_json, _read_training),
    Target("labels of metrics", "prediction.json", _predictions, damaged_json, _read_description),
    Target("prepared case", "case_0.json", _stored, damaged_json, _read_stored),
    Target("safetensors", "weights_final.safetensors", _weights, damaged_safetensors, _read_weights),
    Target("bundle", "model.zip", _bundles, _damaged_bundle, _read_bundle, 0.5),
    Target("results of nnU-Net", "export.zip", _results_of_nnunet, _damaged_results, _read_results, 0.5),
    Target("checkpoint", "checkpoint_latest.pt", _checkpoints, _damaged_checkpoint, _read_checkpoint),
    Target("lists of cases", "cases.txt", _lists, damaged, _read_list, 0.5),
    Target("lists as JSON", "cases.json", _listed_json, damaged_json, _read_list, 0.5),
    Target("groups", "groups.csv", _groups, damaged, _read_list, 0.5),
    Target("spacing of a TIFF stack", "case.json", _spacing_json, damaged_json, _read_spacing, 0.5),
    Target("training log", "log.csv", _training_log, damaged, _read_log, 0.5),
)
