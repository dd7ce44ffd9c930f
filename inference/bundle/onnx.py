"""Export a trained network as ONNX, and compare it with PyTorch before the file appears."""

import importlib.util
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from configs.errors import Fault, InputError, raise_faults
from configs.files import replacing
from configs.folders import PLAN, ModelFolder
from configs.outputs import file_faults
from configs.plan import ModelPlan
from inference.model import load_model
from se_unet.export import export_onnx

_LIMIT = 1e-4  # relative to the largest class score, or to 1 if that is larger
_BATCHES = (1, 2)
_NEEDED = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class OnnxReport:
    """Result of an export."""

    fold: str  # fold whose weights were exported
    shape: tuple[int, int, int, int]  # shape (C, Z, Y, X) of the images; the batch size is free
    difference: float  # largest difference of class scores between onnxruntime and PyTorch
    largest: float  # largest absolute class score


def export_network(model: str | Path, output: str | Path, fold: int | str | None = None, checkpoint: str = "final") -> OnnxReport:
    """Export one fold's network: `image` (B, C, Z, Y, X) -> `logits` (B, K, Z, Y, X), float32, any B, patches of the planned size.

    `<output>.plan.json` beside it describes preprocessing and classes.

    Args:
        model: model folder.
        output: path to the ONNX file.
        fold: fold to export; None takes the first that has weights.
        checkpoint: `final` or `best`.

    Raises:
        InputError: the model cannot be used, it has a custom network class, or packages are missing.
        RuntimeError: results of onnxruntime and PyTorch differ; nothing is written.
    """
    model, output = Path(model), Path(output)
    raise_faults(file_faults(output))
    raise_faults(
        Fault(f"package `{name}`", "not installed", "Install se-unet[onnx]")
        for name in _NEEDED
        if importlib.util.find_spec(name) is None
    )
    named = ModelPlan.read(ModelFolder(model).plan).network.network_class
    if named is not None:
        remedy = "Export it with torch.onnx in code that imports it"
        raise InputError(Fault(str(model), f"the model uses the network class {named}, which is not imported here", remedy))
    loaded = load_model(model, None if fold is None else [fold], checkpoint)
    name, network = next(iter(loaded.networks.items()))
    z, y, x = loaded.plan.network.patch_size
    shape = (loaded.plan.network.network.input_channels, z, y, x)
    with replacing(output) as temporary:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about the exporter's internals
            export_onnx(network, temporary, shape)
        difference, largest = compare(network, temporary, shape)
        limit = _LIMIT * max(1.0, largest)
        if not difference <= limit:
            raise RuntimeError(f"onnxruntime differs from PyTorch by {difference:.3g}, more than the limit of {limit:.3g}")
        loaded.plan.write(output.with_name(f"{output.name}.{PLAN}"))  # first, so that a network never lacks its plan
    return OnnxReport(name, shape, difference, largest)


def compare(network: nn.Module, path: Path, shape: tuple[int, ...]) -> tuple[float, float]:
    """Return the largest difference of class scores on random images in batches of several sizes, and the largest score."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    difference = largest = 0.0
    for batch in _BATCHES:
        image = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(batch))
        with torch.no_grad():
            expected = network(image).numpy()
        (received,) = session.run(["logits"], {"image": image.numpy()})
        difference = max(difference, float(np.abs(received - expected).max()))
        largest = max(largest, float(np.abs(expected).max()))
    return difference, largest
