"""Results of nnU-Net 2.8.1 as it lays them out, with tiny networks: folders of models, and the ZIP file of its export."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from se_unet.nnunet.architecture import architecture_of, settings_of

DATASET_NAME, TRAINER, PLANS_NAME = "Dataset900_Toy", "nnUNetTrainer", "nnUNetPlans"
DATASET: dict[str, Any] = {
    "channel_names": {"0": "CT", "1": "MR"},
    "labels": {"background": 0, "a": 1, "b": 2},
    "numTraining": 4,
    "file_ending": ".nii.gz",
}
_STATISTICS = {"max": 9.0, "mean": 3.0, "median": 2.5, "min": -4.0, "percentile_00_5": -2.0, "percentile_99_5": 7.0, "std": 1.5}
_CLASSES = {"PlainConvUNet": "unet", "ResidualEncoderUNet": "unet"}


def architecture(dimension: int = 3, kind: str = "PlainConvUNet", **changes: Any) -> dict[str, Any]:
    """`architecture` of a configuration in a plan."""
    ones, twos, threes = ([value] * dimension for value in (1, 2, 3))
    blocks = {"n_conv_per_stage": [1, 2]} if kind == "PlainConvUNet" else {"n_blocks_per_stage": [1, 2]}
    parts = {
        "n_stages": 2,
        "features_per_stage": [2, 4],
        "conv_op": f"torch.nn.modules.conv.Conv{dimension}d",
        "kernel_sizes": [threes, threes],
        "strides": [ones, twos],
        **blocks,
        "n_conv_per_stage_decoder": [1],
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimension}d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    name = f"dynamic_network_architectures.architectures.{_CLASSES.get(kind, 'other')}.{kind}"
    return {"network_class_name": name, "arch_kwargs": {**parts, **changes}, "_kw_requires_import": []}


def configuration(dimension: int = 3, **changes: Any) -> dict[str, Any]:
    """A configuration of a plan."""
    resampling: dict[str, Any] = {}
    for kind, order in (("data", 3), ("seg", 1), ("probabilities", 1)):
        resampling[f"resampling_fn_{kind}"] = "resample_data_or_seg_to_shape"
        options = {"is_seg": kind == "seg", "order": order, "order_z": 0, "force_separate_z": None}
        resampling[f"resampling_fn_{kind}_kwargs"] = options
    return {
        "data_identifier": f"{PLANS_NAME}_x",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [8] * dimension,
        "median_image_size_in_voxels": [17.5, 18.0, 19.0][-dimension:],
        "spacing": [2.0, 1.0, 0.9][-dimension:],
        "normalization_schemes": ["CTNormalization", "ZScoreNormalization"],
        "use_mask_for_norm": [False, True],
        **resampling,
        "batch_dice": True,
        "architecture": architecture(dimension),
        **changes,
    }


def plans(**changes: Any) -> dict[str, Any]:
    """Plans with all configurations."""
    forward = changes.get("transpose_forward", [0, 1, 2])
    lowres = configuration(spacing=[3.0, 1.5, 1.4], next_stage="3d_cascade_fullres")
    return {
        "dataset_name": DATASET_NAME,
        "plans_name": PLANS_NAME,
        "original_median_spacing_after_transp": [2.5, 1.0, 0.9],
        "original_median_shape_after_transp": [18, 18, 19],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": forward,
        "transpose_backward": [forward.index(axis) for axis in range(3)],
        "configurations": {
            "2d": configuration(2),
            "3d_fullres": configuration(),
            "3d_lowres": lowres,
            "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        },
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": _STATISTICS, "1": _STATISTICS},
        **changes,
    }


def their_network(parts: Mapping[str, Any], inputs: int, outputs: int, seed: int = 0) -> torch.nn.Module:
    """nnU-Net's network of an `architecture`."""
    from dynamic_network_architectures.architectures import unet

    dimension = len(parts["arch_kwargs"]["strides"][0])
    kinds = {
        "conv_op": (torch.nn.Conv2d, torch.nn.Conv3d)[dimension - 2],
        "norm_op": (torch.nn.InstanceNorm2d, torch.nn.InstanceNorm3d)[dimension - 2],
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "nonlin": torch.nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
        "conv_bias": True,
    }
    torch.manual_seed(seed)
    made = getattr(unet, parts["network_class_name"].rsplit(".", 1)[-1])
    network: torch.nn.Module = made(inputs, num_classes=outputs, deep_supervision=False, **{**parts["arch_kwargs"], **kinds})
    return network


def checkpoint(
    name: str, fold: int | str, planned: Mapping[str, Any] | None = None, dataset: Mapping[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    """Content of a checkpoint, as nnU-Net 2.8.1 writes it at the end of a training."""
    planned, dataset = planned or plans(), dataset or DATASET
    settings = settings_of(planned, name)
    labels = {key: value for key, value in dataset["labels"].items() if key != "ignore"}
    has_regions = any(isinstance(value, list) for value in labels.values())
    values = {one for value in labels.values() for one in (value if isinstance(value, list) else [value])}
    inputs = len(dataset["channel_names"]) + (len(values) - 1) * ("previous_stage" in settings)
    outputs = len(labels) - has_regions
    seed = 7 if fold == "all" else int(fold)
    return {
        "network_weights": their_network(architecture_of(settings), inputs, outputs, seed).state_dict(),
        "optimizer_state": {"state": {}, "param_groups": []},
        "grad_scaler_state": None,
        "logging": {},
        "_best_ema": 0.5,
        "current_epoch": 1000,
        "init_args": {"plans": planned, "configuration": name, "fold": fold, "dataset_json": dataset},
        "trainer_name": TRAINER,
        "inference_allowed_mirroring_axes": tuple(range(len(settings["patch_size"]))),
        **changes,
    }


def write_results(
    folder: Path,
    names: Sequence[str] = ("3d_fullres",),
    folds: Sequence[int | str] = (0,),
    planned: Mapping[str, Any] | None = None,
    dataset: Mapping[str, Any] | None = None,
    kinds: Sequence[str] = ("final",),
    **changes: Any,
) -> Path:
    """Write the results of a dataset, one folder for each configuration, and return the folder of the dataset's results.

    `changes` are entries of the checkpoints.
    """
    planned, dataset = planned or plans(), dataset or DATASET
    trainer = changes.get("trainer_name", TRAINER)
    for name in names:
        model = folder / DATASET_NAME / f"{trainer}__{PLANS_NAME}__{name}"
        for fold in folds:
            (model / f"fold_{fold}").mkdir(parents=True, exist_ok=True)
            for kind in kinds:
                torch.save(checkpoint(name, fold, planned, dataset, **changes), model / f"fold_{fold}" / f"checkpoint_{kind}.pth")
        for file, content in (("plans.json", planned), ("dataset.json", dataset), ("dataset_fingerprint.json", {})):
            (model / file).write_text(json.dumps(content))
    return folder / DATASET_NAME


def write_archive(results: Path, path: Path) -> Path:
    """Write the ZIP file that nnU-Net exports."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(results.rglob("*")):
            if file.is_file():
                entry = zipfile.ZipInfo(
                    file.relative_to(results.parent).as_posix()
                )  # without the time, so that bytes are the same
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, file.read_bytes())
    return path
