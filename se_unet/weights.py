"""Weights on disk: safetensors, which hold numbers and nothing that could run."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from configs.errors import Fault, InputError, fault_of
from configs.files import replacing


def save_weights(network: nn.Module, path: Path) -> None:
    """Write the network's parameters and persistent buffers, whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary)


def load_weights(network: nn.Module, path: Path) -> None:
    """Read weights into the network.

    Raises:
        InputError: the file cannot be read, or its tensors do not fit; every missing, unexpected and misshapen tensor is named.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        fault = fault_of(error, str(path), f"no readable weights ({error})", "Check the path, or train the fold")
        raise InputError(fault) from error
    expected = network.state_dict()
    faults = [
        Fault(f"{path}: {name}", "the network has this tensor, the file does not", _REMEDY) for name in expected.keys() - tensors
    ]
    faults += [
        Fault(f"{path}: {name}", "the file has this tensor, the network does not", _REMEDY) for name in tensors.keys() - expected
    ]
    faults += [
        Fault(f"{path}: {name}", f"the shape is {tuple(tensors[name].shape)}, the network's {tuple(tensor.shape)}", _REMEDY)
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    if faults:
        raise InputError(*sorted(faults, key=str))
    network.load_state_dict(tensors)


_REMEDY = "Use the weights together with the plan.json of the same model"
