"""How scale-equivariant a trained network is, measured on random fields and kept with the model."""

from collections.abc import Sequence

from pydantic import Field
from torch import nn

from configs.errors import Fault, InputError
from configs.files import Value
from inference.model import Model
from se_unet.equivariance import equivariance_error

_SIZE = 64  # voxels along each side of the fields
_SMOOTHING = 3.0  # voxels: structures of some voxels, as images have them
_DEFAULT_STEP = 2 ** (1 / 3)


class EquivarianceReport(Value):
    """Errors of one fold's network, 0 for an equivariant one, about 1 where one scale says little of the other.

    Attributes:
        fold: whose weights.
        factors: of enlargement.
        errors: `mean |f(L_a x) - L_a f(x)|^2 / var(L_a f(x))` of the class scores, one for each factor.
    """

    fold: str
    factors: tuple[float, ...] = Field(min_length=1)
    errors: tuple[float, ...] = Field(min_length=1)


def measure_equivariance(model: Model, factors: Sequence[float] | None = None) -> EquivarianceReport:
    """Measure the first fold of a model on smooth random fields of 64 voxels a side.

    Args:
        model: for volumes.
        factors: of enlargement; None takes one step of the scale group down and up.

    Raises:
        InputError: a model for slices, or one whose strides do not divide 64.
    """
    planned = model.network_plan
    stride = max(planned.network.total_stride)
    if model.configuration.slice_axis is not None or any(_SIZE % length for length in planned.network.total_stride):
        problem = "its network is for slices, or its strides do not divide 64"
        raise InputError(Fault("--equivariance", problem, "Leave the option out"))
    group = planned.network.scale_group
    step = group.step if group is not None else _DEFAULT_STEP
    chosen = tuple(factors) if factors is not None else (1 / step, step)
    fold, network = next(iter(model.networks.items()))
    errors = tuple(_error(network, factor, planned.network.input_channels, stride) for factor in chosen)
    return EquivarianceReport(fold=fold, factors=chosen, errors=errors)


def _error(network: nn.Module, factor: float, channels: int, stride: int) -> float:
    return equivariance_error(network, factor, channels=channels, size=_SIZE, stride=stride, smoothing=_SMOOTHING, seeds=(0, 1))
