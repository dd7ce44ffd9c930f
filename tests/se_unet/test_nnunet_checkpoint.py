"""Checkpoints of nnU-Net: read with NumPy's scalars in their logs, and without running anything."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from configs.errors import InputError
from se_unet import build_network
from se_unet.nnunet.checkpoint import read_nnunet_checkpoint

architectures = pytest.importorskip(
    "dynamic_network_architectures.architectures.unet", reason="needs dynamic_network_architectures, a dependency of tests alone"
)

PARTS: dict[str, Any] = {
    "n_stages": 2,
    "features_per_stage": [2, 4],
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [2, 2, 2]],
    "n_conv_per_stage": [1, 1],
    "n_conv_per_stage_decoder": [1],
    "conv_bias": True,
    "norm_op_kwargs": {"eps": 1e-05, "affine": True},
    "nonlin": "torch.nn.LeakyReLU",
}


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    kinds = {"conv_op": torch.nn.Conv3d, "norm_op": torch.nn.InstanceNorm3d, "nonlin": torch.nn.LeakyReLU}
    built: torch.nn.Module = architectures.PlainConvUNet(input_channels=1, num_classes=3, deep_supervision=False, **PARTS | kinds)
    return built


def content(**changes: Any) -> dict[str, Any]:
    """Laid out as nnU-Net 2.8.1 writes it after an epoch."""
    settings = {
        "spacing": [2.0, 1.0, 1.0],
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": PARTS,
        },
    }
    plans = {"configurations": {"3d_fullres": settings, "3d_small": {"inherits_from": "3d_fullres", "batch_size": 7}}}
    dataset = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "a": 1, "b": 2}}
    logged = {"ema_fg_dice": [np.float64(0.5)], "dice_per_class_or_region": [[np.float32(0.5), np.float64(0.25)]]}
    return {
        "network_weights": network().state_dict(),
        "optimizer_state": {"state": {}, "param_groups": []},
        "grad_scaler_state": None,
        "logging": logged,
        "_best_ema": np.mean([np.float32(0.25), np.float32(0.5)]),
        "current_epoch": 1,
        "init_args": {
            "plans": plans,
            "configuration": "3d_small",
            "fold": 2,
            "dataset_json": dataset,
            "device": torch.device("cpu"),
        },
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    } | changes


def test_weights_compute_what_they_computed(tmp_path: Path) -> None:
    torch.save(content(), tmp_path / "checkpoint_final.pth")
    checkpoint = read_nnunet_checkpoint(tmp_path / "checkpoint_final.pth")
    assert (checkpoint.configuration, checkpoint.trainer) == ("3d_small", "nnUNetTrainer")
    assert checkpoint.settings["batch_size"] == 7
    assert checkpoint.mirror_axes == (0, 1, 2)
    assert checkpoint.network.spacing == (2.0, 1.0, 1.0)
    ours = build_network(checkpoint.network)
    ours.load_state_dict(checkpoint.our_weights())
    image = torch.randn(1, 1, 8, 8, 8)
    with torch.no_grad():
        expected = network().eval()(image)
        assert (ours.eval()(image) - expected).abs().max() < 1e-5 * expected.abs().max()


class Exploit:
    """An object that runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch exploited",)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content(logging=Exploit()), tmp_path / "checkpoint_final.pth")
    with pytest.raises(InputError, match="cannot be read"):
        read_nnunet_checkpoint(tmp_path / "checkpoint_final.pth")
    assert not (tmp_path / "exploited").exists()


@pytest.mark.parametrize("data", [{"state_dict": {}}, [1, 2], {"init_args": {"plans": {}}}])
def test_other_files_are_refused(tmp_path: Path, data: object) -> None:
    torch.save(data, tmp_path / "other.pth")
    with pytest.raises(InputError, match="not a checkpoint of nnU-Net 2"):
        read_nnunet_checkpoint(tmp_path / "other.pth")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.pth: the checkpoint cannot be read"):
        read_nnunet_checkpoint(tmp_path / "missing.pth")
