"""The choice of the device: never a device that nobody asked for or tested, and never the CPU without a word where there is a GPU."""

import logging
from pathlib import Path

import pytest
import torch

from configs.errors import InputError
from inference import device
from inference.device import check_processes, choose_device, existing_devices


def test_untested_devices_are_chosen_only_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device().type == "cpu"
    assert existing_devices() == ["cpu", "mps"]


def test_a_missing_device_is_refused_with_those_that_exist() -> None:
    with pytest.raises(InputError, match=r"device `cuda:7`.*Choose from cpu"):
        choose_device("cuda:7")
    with pytest.raises(InputError, match=r"device `gpu`.*Choose from cpu"):
        choose_device("gpu")


@pytest.mark.parametrize("name", [None, "cpu"])
def test_mistyped_kernels_are_refused_before_anything_is_computed(name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SE_UNET_KERNELS", "fusd")
    with pytest.raises(InputError, match=r"SE_UNET_KERNELS: unknown choice `fusd`"):
        choose_device(name)
    monkeypatch.setenv("SE_UNET_KERNELS", "fused")
    assert choose_device(name).type == "cpu"


def test_a_gpu_that_cannot_be_used_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An old driver would else mean hours on the CPU without a word. Without a driver there is nothing to tell."""

    def refuse() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040).\nPlease update")

    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "init", refuse)
    with caplog.at_level(logging.WARNING):
        monkeypatch.setattr(device, "_NVIDIA_DRIVER", tmp_path / "absent")
        assert choose_device().type == "cpu" and not caplog.records
        monkeypatch.setattr(device, "_NVIDIA_DRIVER", tmp_path)
        assert choose_device().type == "cpu"
    (record,) = caplog.records
    assert "cannot use a GPU: The NVIDIA driver on your system is too old (found version 11040)." in record.message


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_processes(4, None)  # on the CPU any number may share a training
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_processes(2, None)
    check_processes(4, "cpu")
    with pytest.raises(InputError, match=r"--num-gpus 4.*this machine has 2 GPUs.*Use --num-gpus 2"):
        check_processes(4, "cuda")
