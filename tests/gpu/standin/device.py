"""Tensors of the stand-in GPU, and the dispatch of operators to them."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests.gpu.standin.ledger import LEDGER

GPU = torch.device("cuda:0")
aten = torch.ops.aten

# Operators whose result depends on values, for which the host waits.
WAITS = {
    aten._local_scalar_dense.default, aten.is_nonzero.default, aten.equal.default, aten.nonzero.default, aten.masked_select.default,
    aten._unique2.default, aten.unique_dim.default, aten.unique_consecutive.default, aten.bincount.default,
    aten.repeat_interleave.Tensor,
}  # fmt: skip
VIEWS = {aten._unsafe_view.default}  # of a fresh tensor
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
ACROSS = {aten._to_copy.default, aten.copy_.default, aten.copy.default}


class GPUTensor(torch.Tensor):
    """A tensor that says `cuda:0`. Its values are in a CPU tensor with the same sizes and strides."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> "GPUTensor":
        LEDGER.memory.hold(values)
        made = torch.Tensor._make_wrapper_subclass(
            cls, values.size(), strides=values.stride(), storage_offset=values.storage_offset(), dtype=values.dtype, device=GPU
        )
        made.values = values
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        return run(func, args, kwargs or {})

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            copied: Tensor = GPUTensor(self.values.detach().clone())
            memo[id(self)] = torch.nn.Parameter(copied, self.requires_grad) if isinstance(self, torch.nn.Parameter) else copied
        found: Tensor = memo[id(self)]
        return found

    def __repr__(self) -> str:  # type: ignore[override]
        return f"GPUTensor({tuple(self.shape)}, {self.dtype})"

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
        )

    __array__ = numpy

    def tolist(self) -> Any:
        LEDGER.wait("tolist")
        return self.values.tolist()


class StandIn(TorchDispatchMode):
    """Inside this mode, `device="cuda"` makes tensors of the stand-in."""

    def __enter__(self) -> "StandIn":
        self._factories = _Factories()
        self._factories.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._factories.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if _names_gpu(kwargs.get("device")) or any(isinstance(one, GPUTensor) for one in _tensors(args, kwargs)):
            return run(func, args, kwargs)
        return func(*args, **kwargs)


class _Factories(TorchFunctionMode):
    """`torch.tensor` and `torch.as_tensor` make their values on the host and copy them, for which the host waits."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and _names_gpu(kwargs.get("device")):
            del kwargs["device"]
            return func(*args, **kwargs).to(GPU)
        return func(*args, **kwargs)


def run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an operator that reads or makes tensors of the stand-in.

    Raises:
        RuntimeError: the tensors lie on two devices.
        torch.OutOfMemoryError: the result does not fit.
    """
    tensors = list(_tensors(args, kwargs))
    ours = [one for one in tensors if isinstance(one, GPUTensor)]
    name = func.name().split("::")[1].split(".")[0]
    to_gpu = _names_gpu(kwargs["device"]) if kwargs.get("device") is not None else bool(ours)
    if func in ACROSS:
        to_gpu = _note_copy(func, args, kwargs, bool(ours), to_gpu)
    else:
        _refuse_two_devices(func, name, args, tensors, ours)
    if func in WAITS or (name in INDEXING and _has_mask(args)):
        LEDGER.wait(name)
    if not (func.is_view or func in VIEWS):
        LEDGER.launches += 1
        LEDGER.operators[name] += 1
    result = _compute(func, name, args, kwargs)
    if not to_gpu:
        return result
    known = {id(one.values): one for one in ours}

    def wrapped(one: Tensor) -> Tensor:
        if isinstance(one, GPUTensor):
            return one
        return known[id(one)] if id(one) in known else GPUTensor(one)

    return _mapped(wrapped, result)


def _compute(func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an operator on the values, with what CUDA does otherwise than CPUs."""
    args, kwargs = _mapped(_values, args), {name: _mapped(_values, value) for name, value in kwargs.items()}
    if _names_gpu(kwargs.get("device")):
        kwargs["device"] = torch.device("cpu")
    if "pin_memory" in kwargs:
        kwargs["pin_memory"] = False
    if name == "native_group_norm":  # on CUDA, maps become contiguous first
        args = (args[0].contiguous(), *args[1:])
    if name == "native_group_norm_backward":
        args = (args[0].contiguous(), args[1].contiguous(), *args[2:])
    if name in ("_softmax", "_log_softmax") and args[2]:  # from half precision to float32 in one kernel
        args = (args[0].float(), args[1], False)
    if name in ("_softmax_backward_data", "_log_softmax_backward_data") and args[3] != args[0].dtype:
        return func(*args[:3], args[0].dtype, **kwargs).to(args[3])
    return func(*args, **kwargs)


def _values(tensor: Tensor) -> Tensor:
    return tensor.values if isinstance(tensor, GPUTensor) else tensor


def _tensors(args: Any, kwargs: dict[str, Any]) -> Iterator[Tensor]:
    """Yield the tensors among the arguments of an operator, which may be in lists."""
    for one in (*args, *kwargs.values()):
        if isinstance(one, Tensor):
            yield one
        elif isinstance(one, (list, tuple)):
            yield from _tensors(one, {})


def _mapped(change: Callable[[Tensor], Tensor], given: Any) -> Any:
    """Return the arguments or results of an operator with all tensors changed."""
    if isinstance(given, Tensor):
        return change(given)
    return type(given)(_mapped(change, one) for one in given) if isinstance(given, (list, tuple)) else given


def _names_gpu(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def _note_copy(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], from_gpu: bool, to_gpu: bool) -> bool:
    """Note a copy between the devices. Returns whether the result lies on the GPU."""
    if func is not aten._to_copy.default:
        from_gpu, to_gpu = isinstance(args[1], GPUTensor), isinstance(args[0], GPUTensor)
    if from_gpu == to_gpu:
        return to_gpu
    non_blocking = kwargs.get("non_blocking", args[2] if len(args) > 2 else False)
    if to_gpu and non_blocking:
        LEDGER.copies += 1
    else:
        LEDGER.wait("copy to the device" if to_gpu else "copy to the host")
    return to_gpu


def _refuse_two_devices(func: Any, name: str, args: tuple[Any, ...], tensors: list[Tensor], ours: list[GPUTensor]) -> None:
    """Raise an error as CUDA does. Numbers of the host may take part, and so may indices of the host into tensors of the device."""
    others = [one for one in tensors if not isinstance(one, GPUTensor) and one.dim() > 0]
    if not ours or not others:
        return
    if name in INDEXING and isinstance(args[0], GPUTensor) and all(isinstance(one, GPUTensor) for one in args[2:3]):
        LEDGER.wait("indices of the host")
        return
    raise RuntimeError(f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! ({func})")


def _has_mask(args: tuple[Any, ...]) -> bool:
    """Return whether a tensor is indexed by a mask of the device, whose true values are counted first."""
    return any(isinstance(one, GPUTensor) and one.dtype in (torch.bool, torch.uint8) for one in args[1])
