"""Damaged and hostile results of nnU-Net: each is refused with one line for each fault, and nothing is written or run."""

import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from configs.errors import InputError
from inference.bundle.nnunet.install import import_nnunet
from tests.inference.bundle.nnunet.results import (
    DATASET,
    PLANS_NAME,
    TRAINER,
    architecture,
    checkpoint,
    configuration,
    plans,
    write_archive,
    write_results,
)

Edit = Callable[[dict[str, Any]], Any]
MODEL = f"{TRAINER}__{PLANS_NAME}__3d_fullres"


def at(*keys: str, value: Any = None, drop: bool = False) -> Edit:
    """Set or drop an entry."""

    def edit(content: dict[str, Any]) -> dict[str, Any]:
        content = json.loads(json.dumps(content))
        place = content
        for key in keys[:-1]:
            place = place[key]
        if drop:
            del place[keys[-1]]
        else:
            place[keys[-1]] = value
        return content

    return edit


def full(*keys: str, value: Any = None, drop: bool = False) -> Edit:
    return at("configurations", "3d_fullres", *keys, value=value, drop=drop)


def network(*keys: str, value: Any = None, drop: bool = False) -> Edit:
    return full("architecture", "arch_kwargs", *keys, value=value, drop=drop)


PLAN_EDITS: dict[str, tuple[Edit, str]] = {
    "no configurations": (at("configurations", drop=True), "damaged or of another version"),
    "configurations are a list": (at("configurations", value=[1]), "damaged or of another version"),
    "no such configuration": (at("configurations", value={}), "damaged or of another version"),
    "inherits in a circle": (full("inherits_from", value="3d_fullres"), "inherit from each other"),
    "inherits from nothing": (full("inherits_from", value="nothing"), "damaged or of another version"),
    "no axes": (at("transpose_forward", drop=True), "damaged or of another version"),
    "two axes": (at("transpose_forward", value=[0, 1]), "damaged or of another version"),
    "the same axis twice": (at("transpose_forward", value=[0, 0, 1]), "0, 1 and 2 in any order"),
    "no reader": (at("image_reader_writer", drop=True), "damaged or of another version"),
    "axes that do not come back": (at("transpose_backward", value=[1, 2, 0]), r"\[1, 2, 0\] does not undo \[0, 1, 2\]"),
    "unknown reader": (at("image_reader_writer", value="MyIO"), "`MyIO` is unknown"),
    "unknown label manager": (at("label_manager", value="Mine"), "`Mine` is unknown"),
    "unknown preprocessor": (full("preprocessor_name", value="Mine"), "`Mine` is unknown"),
    "unknown normalisation": (full("normalization_schemes", value=["Mine"] * 2), "`Mine` is unknown"),
    "too few normalisations": (full("normalization_schemes", value=["CTNormalization"]), "1 normalisations are planned"),
    "no statistics": (at("foreground_intensity_properties_per_channel", value={}), "damaged|statistics"),
    "statistics that are words": (at("foreground_intensity_properties_per_channel", "0", "mean", value="x"), "mean"),
    "statistics that are not finite": (at("foreground_intensity_properties_per_channel", "0", "std", value=1e999), "std|JSON"),
    "no patch": (full("patch_size", drop=True), "damaged or of another version"),
    "a patch of words": (full("patch_size", value="abc"), "patch_size"),
    "a patch that strides do not divide": (full("patch_size", value=[7, 8, 8]), "not divisible by the total stride"),
    "a negative patch": (full("patch_size", value=[-8, 8, 8]), "patch_size"),
    "a flat patch for a volume": (full("patch_size", value=[8, 8]), "."),
    "no spacing": (full("spacing", drop=True), "damaged or of another version"),
    "a spacing of 0": (full("spacing", value=[0.0, 1.0, 1.0]), "spacing"),
    "a negative spacing": (full("spacing", value=[-1.0, 1.0, 1.0]), "spacing"),
    "an endless shape": (full("median_image_size_in_voxels", value=[1e999, 1, 1]), "."),
    "no batch": (full("batch_size", value=0), "batch_size"),
    "another spline": (full("resampling_fn_data_kwargs", "order", value=5), "with order 5 is unknown"),
    "unknown resampling": (full("resampling_fn_data", value="mine"), "`mine` with order 3 is unknown"),
    "no resampling at all": (full("resampling_fn_data", value="no_resampling_hack"), "`no_resampling_hack` with order 3"),
    "slices interpolated": (full("resampling_fn_data_kwargs", "order_z", value=1), "order_z = 1"),
    "slices forced": (full("resampling_fn_data_kwargs", "force_separate_z", value=True), "`force_separate_z` is true"),
    "slices here and not there": (full("resampling_fn_seg_kwargs", "force_separate_z", value=False), "treat thick slices"),
    "another network": (full("architecture", value=architecture(kind="Primus")), "`Primus` is not supported"),
    "no network": (full("architecture", drop=True), "damaged or of another version"),
    "another rectifier": (network("nonlin", value="torch.nn.ReLU"), "`nonlin` is torch.nn.ReLU"),
    "another slope": (network("nonlin_kwargs", value={"negative_slope": 0.2}), "`nonlin_kwargs` is"),
    "another norm": (network("norm_op", value="torch.nn.BatchNorm3d"), "`norm_op` is torch.nn.BatchNorm3d"),
    "dropout": (network("dropout_op", value="torch.nn.Dropout3d"), "`dropout_op` is"),
    "the rectifier first": (network("nonlin_first", value=True), "`nonlin_first` is True"),
    "an unknown setting": (network("squeeze_excitation", value=True), "`squeeze_excitation` is True"),
    "no features": (network("features_per_stage", drop=True), "damaged or of another version"),
    "a billion features": (network("features_per_stage", value=[10**9, 10**9]), "the weights do not fit the plan"),
    "a million stages": (network("n_stages", value=10**6), "`n_stages` is 1000000"),
    "a billion blocks": (network("n_conv_per_stage", value=[10**9, 1]), "the weights do not fit the plan"),
    "even kernels": (network("kernel_sizes", value=[[2, 2, 2], [3, 3, 3]]), "kernel sizes must be odd"),
    "huge kernels": (network("kernel_sizes", value=[[9999, 3, 3], [3, 3, 3]]), "the weights do not fit the plan"),
    "strides of 3": (network("strides", value=[[1, 1, 1], [3, 3, 3]]), "strides must be 1 or 2"),
    "other widths than the weights": (network("features_per_stage", value=[2, 6]), "the weights do not fit the plan"),
    "a first stage without weights": (full("previous_stage", value="3d_lowres"), "asks for 4"),
}
DATASET_EDITS: dict[str, tuple[Edit, str]] = {
    "no labels": (at("labels", drop=True), "`labels` must map names to values"),
    "no channels": (at("channel_names", drop=True), "`channel_names` must name channels"),
    "one channel more": (
        at("channel_names", value={"0": "a", "1": "b", "2": "c"}),
        "2 normalisations are planned, but there are 3 channels",
    ),
    "one label more": (at("labels", value={"background": 0, "a": 1, "b": 2, "c": 3}), "has 3 outputs"),
    "no background": (at("labels", value={"a": 1, "b": 2}), "`background` must be 0"),
    "two labels of one value": (at("labels", value={"background": 0, "a": 1, "b": 1}), "share a value"),
    "regions without an order": (at("labels", value={"background": 0, "a": [1, 2], "b": [2]}), "regions_class_order"),
}


def refused(source: Path, folder: Path, match: str) -> None:
    """Importing fails with one line for each fault, and leaves nothing behind."""
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(InputError, match=match) as caught:
        import_nnunet(source, folder / "ours")
    assert all("\n" not in str(fault) and len(str(fault)) < 700 for fault in caught.value.faults)
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize("name", PLAN_EDITS)
def test_damaged_plans(tmp_path: Path, name: str) -> None:
    edit, match = PLAN_EDITS[name]
    results = write_results(tmp_path / "results")
    (results / MODEL / "plans.json").write_text(json.dumps(edit(plans())))
    refused(results, tmp_path, match)


@pytest.mark.parametrize("name", DATASET_EDITS)
def test_damaged_descriptions(tmp_path: Path, name: str) -> None:
    edit, match = DATASET_EDITS[name]
    results = write_results(tmp_path / "results")
    (results / MODEL / "dataset.json").write_text(json.dumps(edit(DATASET)))
    refused(results, tmp_path, match)


@pytest.mark.parametrize("file", ["plans.json", "dataset.json"])
@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff\xfe\x00", b"[" * 100_000, b'{"a": ' + b"9" * 100_000 + b"}"])
def test_files_that_are_not_json_objects(tmp_path: Path, file: str, content: bytes) -> None:
    results = write_results(tmp_path / "results")
    (results / MODEL / file).write_bytes(content)
    refused(results, tmp_path, "JSON|damaged|`labels`|`channel_names`")


class Exploit:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch exploited",)


def _weights(**changes: Any) -> dict[str, Any]:
    return {**checkpoint("3d_fullres", 0)["network_weights"], **changes}


def _changed(change: Callable[[Tensor], Any]) -> dict[str, Any]:
    """Weights whose last tensor is changed."""
    weights = _weights()
    name = list(weights)[-1]
    return {**weights, name: change(weights[name])}


def _twice() -> dict[str, Any]:
    """Weights in which a tensor also has the prefix of a compiled network, with other numbers."""
    weights = _weights()
    name = next(name for name in weights if name.startswith("decoder.stages"))
    return {**weights, f"_orig_mod.{name}": weights[name] + 1}


CHECKPOINTS: dict[str, tuple[Callable[[], Any], str]] = {
    "code": (lambda: checkpoint("3d_fullres", 0, logging=Exploit()), "cannot be read"),
    "a list": (lambda: [1, 2], "not a checkpoint of nnU-Net 2"),
    "nothing": (dict, "not a checkpoint of nnU-Net 2"),
    "no weights": (lambda: checkpoint("3d_fullres", 0, network_weights={}), "no first convolution|no segmentation layers"),
    "weights that are numbers": (lambda: checkpoint("3d_fullres", 0, network_weights={"a": 1}), "`a` is not a tensor"),
    "weights that are a list": (lambda: checkpoint("3d_fullres", 0, network_weights=[1]), "not a dictionary of tensors"),
    "a name that is a number": (
        lambda: checkpoint("3d_fullres", 0, network_weights={**_weights(), 5: torch.zeros(1)}),
        "by name",
    ),
    "a list among the weights": (
        lambda: checkpoint("3d_fullres", 0, network_weights=_changed(lambda one: one.tolist())),
        "is not a tensor",
    ),
    "sparse weights": (
        lambda: checkpoint("3d_fullres", 0, network_weights=_changed(Tensor.to_sparse)),
        "is not a tensor of real",
    ),
    "complex weights": (
        lambda: checkpoint("3d_fullres", 0, network_weights=_changed(lambda one: one + 1j)),
        "is not a tensor of real",
    ),
    "weights without memory": (
        lambda: checkpoint("3d_fullres", 0, network_weights=_changed(lambda one: one.to("meta"))),
        "is not a tensor",
    ),
    "one tensor under two names": (
        lambda: checkpoint("3d_fullres", 0, network_weights=_twice()),
        "two tensors are named `decoder",
    ),
    "an unknown layer": (lambda: checkpoint("3d_fullres", 0, network_weights=_weights(mine=torch.zeros(2))), "no layer"),
    "a missing layer": (
        lambda: checkpoint("3d_fullres", 0, network_weights=dict(list(_weights().items())[:-1])),
        "do not fit the plan|no segmentation",
    ),
    "not finite": (
        lambda: checkpoint("3d_fullres", 0, network_weights={k: v * np.nan for k, v in _weights().items()}),
        "weights are not finite numbers",
    ),
    "wrong axes of mirroring": (
        lambda: checkpoint("3d_fullres", 0, inference_allowed_mirroring_axes=(0, 7)),
        "mirror_axes must be",
    ),
    "axes of mirroring that are words": (
        lambda: checkpoint("3d_fullres", 0, inference_allowed_mirroring_axes="x"),
        "not a checkpoint of nnU-Net 2",
    ),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_damaged_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    make, match = CHECKPOINTS[name]
    results = write_results(tmp_path / "results")
    torch.save(make(), results / MODEL / "fold_0" / "checkpoint_final.pth")
    refused(results, tmp_path, match)
    assert not (tmp_path / "exploited").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02}q\x00.", b"text"])
def test_checkpoints_that_are_none(tmp_path: Path, content: bytes) -> None:
    results = write_results(tmp_path / "results")
    (results / MODEL / "fold_0" / "checkpoint_final.pth").write_bytes(content)
    refused(results, tmp_path, "cannot be read")


def test_folds_of_two_models(tmp_path: Path) -> None:
    results = write_results(tmp_path / "results", folds=(0, 1))
    torch.save(checkpoint("3d_lowres", 1), results / MODEL / "fold_1" / "checkpoint_final.pth")
    refused(results, tmp_path, "of another model than those of the other folds")


def test_the_second_fold_is_damaged(tmp_path: Path) -> None:
    """The first is converted by then."""
    results = write_results(tmp_path / "results", folds=(0, 1))
    path = results / MODEL / "fold_1" / "checkpoint_final.pth"
    path.write_bytes(path.read_bytes()[:-100])
    refused(results, tmp_path, "fold_1")


def test_two_models_of_one_configuration(tmp_path: Path) -> None:
    results = write_results(tmp_path / "results")
    write_results(tmp_path / "results", trainer_name="nnUNetTrainerDA5")
    refused(results, tmp_path, "2 models of the configuration `3d_fullres`")


@pytest.mark.parametrize("missing", ["plans.json", "dataset.json", "fold_0/checkpoint_final.pth"])
def test_missing_files(tmp_path: Path, missing: str) -> None:
    results = write_results(tmp_path / "results")
    (results / MODEL / missing).unlink()
    refused(results, tmp_path, "no trained model of nnU-Net 2|is missing")


@pytest.mark.parametrize(
    "content",
    [{}, [1], {"postprocessing_fns": ["os.system"], "postprocessing_kwargs": [{"labels_or_regions": 1}]},
     {"postprocessing_fns": ["a"], "postprocessing_kwargs": []},
     {"postprocessing_fns": ["remove_all_but_largest_component_from_segmentation"],
      "postprocessing_kwargs": [{"labels_or_regions": float("inf")}]},
     {"postprocessing_fns": ["remove_all_but_largest_component_from_segmentation"], "postprocessing_kwargs": [{}]},
     {"postprocessing_fns": ["remove_all_but_largest_component_from_segmentation"],
      "postprocessing_kwargs": [{"labels_or_regions": [9]}]},
     {"postprocessing_fns": ["remove_all_but_largest_component_from_segmentation"],
      "postprocessing_kwargs": [{"labels_or_regions": {"a": True}}]}],
)  # fmt: skip
def test_damaged_postprocessing(tmp_path: Path, content: Any) -> None:
    results = write_results(tmp_path / "results")
    folder = results / MODEL / "crossval_results_folds_0"
    folder.mkdir()
    (folder / "postprocessing.json").write_text(json.dumps(content))
    refused(results, tmp_path, "postprocessing|JSON object")


def _with_entry(name: str, content: bytes = b"x", mode: int = 0o100644) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
            entry = zipfile.ZipInfo(name)
            entry.external_attr, entry.compress_type = mode << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)

    return change


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _flip_data(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def _encrypted(path: Path) -> None:
    """Set the flag of encryption of every entry, in both places."""
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(signature)
        while start >= 0:
            content[start + offset] |= 1
            start = content.find(signature, start + 4)
    path.write_bytes(content)


def _claims_much(path: Path) -> None:
    """Let the directory claim 3 GB for the first entry."""
    content = bytearray(path.read_bytes())
    start = content.find(b"PK\x01\x02")
    content[start + 24 : start + 28] = struct.pack("<I", 3 * 10**9)
    path.write_bytes(content)


ARCHIVES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a path upwards": (_with_entry("../../evil/plans.json"), "leads outside"),
    "an absolute path": (_with_entry("/etc/plans.json"), "leads outside"),
    "a drive": (_with_entry("C:/plans.json"), "leads outside"),
    "backslashes upwards": (_with_entry("..\\..\\plans.json"), "leads outside"),
    "a link": (_with_entry("link", b"/etc/passwd", 0o120777), "the entry is a link"),
    "a bomb": (_with_entry("Dataset900_Toy/bomb/plans.json", b"\0" * (100 * 2**20)), "claims 104857600 bytes"),
    "a plan twice": (_with_entry(f"Dataset900_Toy/{MODEL}/plans.json", b"{}"), "occurs more than once"),
    "cut": (_cut, "not a ZIP file, or a damaged one"),
    "damaged data": (_flip_data, "."),
    "encrypted": (_encrypted, "encrypted"),
    "a false size": (_claims_much, "."),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ARCHIVES)
def test_hostile_archives(tmp_path: Path, name: str) -> None:
    change, match = ARCHIVES[name]
    path = write_archive(write_results(tmp_path / "results"), tmp_path / "export.zip")
    change(path)
    refused(path, tmp_path, match)
    assert not (tmp_path.parent / "evil").exists()


@pytest.mark.parametrize("name", ["plans.json", "fold_1/checkpoint_final.pth"])
@pytest.mark.parametrize("kind", ["pipe", "link to nothing"])
def test_files_that_cannot_be_read_to_an_end(tmp_path: Path, name: str, kind: str) -> None:
    """A pipe would be waited for, and a fold whose link leads to nothing would be missed."""
    path = write_results(tmp_path / "results", folds=(0, 1)) / MODEL / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / "nothing")
    refused(tmp_path / "results", tmp_path, "not a regular file, or a link to no file")


def test_a_text_of_too_many_bytes(tmp_path: Path) -> None:
    results = write_results(tmp_path / "results")
    (results / MODEL / "plans.json").write_bytes(b" " * (17 * 2**20))
    refused(results, tmp_path, "more than 16777216 bytes")


def test_the_cases_are_many_and_the_sound_ones_pass(tmp_path: Path) -> None:
    assert len(PLAN_EDITS) + len(DATASET_EDITS) + len(CHECKPOINTS) + len(ARCHIVES) >= 60
    results = write_results(tmp_path / "results", planned=plans(), dataset=DATASET)
    assert import_nnunet(results, tmp_path / "ours") and configuration()["batch_size"] == 2
