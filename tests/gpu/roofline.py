"""What the planned networks would ask of a GPU at full size, counted from shapes: kernels, bytes, multiply-adds, peak memory.

    python -m tests.gpu.roofline    # writes docs/measurements/cost/roofline.csv

Tensors are PyTorch's fake ones on "cuda", so nothing is computed and a plan for 24 GB is counted on a laptop. Networks run without
compilation, which merges many of these kernels. The counter's rules:

* An operator reads each input once and writes each result once. A broadcast input counts as large as its storage.
* Norms read their input twice, and the backward pass of a norm reads both of its inputs twice; each of the two passes is one kernel.
  Group norm copies an input first that is not contiguous.
* The backward pass of a convolution is one kernel for each gradient.
* An operator on lists of tensors starts a kernel for each 64 of them and for each 320 chunks of 65,536 values, as PyTorch's do, or more.
* The project's own kernels (`se_unet/layers/fused`) follow the same rules; their multiply-adds include those on zeros.
* An operator takes the longer of the times for its bytes and for its multiply-adds; the ideal time is the sum over operators.
"""

from tests.gpu.standin.build import build, load

if __name__ == "__main__":
    load(build())

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, register_flop_formula

from benchmarks.gpu.setting import DESCRIPTION, EDGES, planned_network
from configs.network import NetworkConfig
from inference.device import in_precision
from planners.rules.memory import peak_bytes, training_bytes
from se_unet.builder import build_network
from se_unet.layers.convolution import ScaleConvolution
from se_unet.layers.fused import tiles
from se_unet.layers.grids import Band
from trainers.optimisation.loss import make_loss

OPERATIONS, BYTES = 790e12, 4.3e12  # per second: bfloat16 products and memory traffic of an H200
SMALL = 2**20  # bytes; kernels that move less cost their launch alone
ROOT, TABLE = Path(__file__).parents[2], Path("docs/measurements/cost/roofline.csv")
OUTPUTS = ("out", "save_mean", "save_invstd")
NORMS = {"native_group_norm", "native_batch_norm", "instance_norm"}
NORMS_BACKWARD = {"native_group_norm_backward", "native_batch_norm_backward", "instance_norm_backward"}


@dataclass
class Count:
    """Totals of some operators."""

    kernels: int = 0
    bytes: float = 0.0
    operations: float = 0.0
    seconds: float = 0.0

    def add(self, kernels: int, nbytes: float, operations: float) -> None:
        self.kernels += kernels
        self.bytes += nbytes
        self.operations += operations
        self.seconds += max(operations / OPERATIONS, nbytes / BYTES)


@dataclass
class Roofline(TorchDispatchMode):
    """Counts what happens inside it.

    Attributes:
        kinds: totals by operator.
        small: kernels that move less than 1 MiB.
        kernel_sizes: numbers of elements of weights and kernels, which are no maps.
        wide: names of operators that made maps of at least 1 MiB in float32, and the shapes, with how many.
    """

    kinds: dict[str, Count] = field(default_factory=lambda: defaultdict(Count))
    small: int = 0
    kernel_sizes: frozenset[int] = frozenset()
    wide: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def __post_init__(self) -> None:
        super().__init__()

    @property
    def total(self) -> Count:
        whole = Count()
        for one in self.kinds.values():
            whole.kernels += one.kernels
            whole.bytes += one.bytes
            whole.operations += one.operations
            whole.seconds += one.seconds
        return whole

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        result = _in_layout(func, args, func(*args, **kwargs))
        inputs = _tensors((args, {name: value for name, value in kwargs.items() if name not in OUTPUTS}))
        outputs = _tensors(result)
        name = func.name().split("::")[1].split(".")[0]
        if name.startswith("_foreach"):
            self._add_lists(name, args)
        if not outputs or func.is_view or name == "_unsafe_view":
            return result
        storages = {one.untyped_storage()._cdata for one in inputs}
        if all(one.untyped_storage()._cdata in storages for one in outputs) and not func._schema.is_mutable:
            return result  # a reshape that needed no copy
        kernels, nbytes = 1, float(sum(map(_bytes, (*inputs, *outputs))))
        if name in NORMS:
            kernels, nbytes = 2, nbytes + _bytes(inputs[0])
            if name == "native_group_norm" and not inputs[0].is_contiguous():
                kernels, nbytes = 3, nbytes + 2 * _bytes(inputs[0])
        elif name in NORMS_BACKWARD:
            kernels, nbytes = 2, nbytes + _bytes(inputs[0]) + _bytes(inputs[1])
        elif name == "convolution_backward":
            kernels = len(outputs)
        elif name.startswith(("empty", "new_empty")):
            return result
        packet = func.overloadpacket
        operations = flop_registry[packet](*args, **kwargs, out_val=result) if packet in flop_registry else 0
        self.kinds[name].add(kernels, nbytes, operations)
        self.small += kernels * (nbytes < SMALL)
        for one in outputs:
            if one.dtype == torch.float32 and _bytes(one) >= SMALL and one.numel() not in self.kernel_sizes:
                self.wide[f"{name} {tuple(one.shape)}"] += 1
        return result

    def _add_lists(self, name: str, args: tuple[Any, ...]) -> None:
        """Count an operator that writes the first of several lists of tensors."""
        first = args[0]
        kernels = -(-len(first) // 64) + sum(-(-one.numel() // 65536) for one in first) // 320
        nbytes = float(sum(map(_bytes_of_values, _tensors(args))))
        self.kinds[name].add(kernels, nbytes, 0)
        self.small += kernels * (nbytes < SMALL)


@register_flop_formula(torch.ops.se_unet.separable)
def _separable_operations(rows: Any, *shapes_and_bands: Any, out_shape: Any = None, **others: Any) -> int:
    """Return the operations of the project's separable kernel, two for each multiply-add."""
    numbers = shapes_and_bands[-1]
    bands = [Band(*numbers[first : first + 4]) for first in (0, 4, 8)]
    return 2 * tiles.multiply_adds(rows[0] * rows[1], rows[2:5], out_shape[2:5], rows[-1], bands)


def _in_layout(func: Any, args: tuple[Any, ...], result: Any) -> Any:
    """Return the result of a convolution with channels innermost where its input has them so, as cuDNN does; fake ones are contiguous."""
    name = func.name().split("::")[1].split(".")[0]
    if name not in ("convolution", "convolution_backward") or not _is_innermost(args[0]):
        return result

    def laid_out(one: Any) -> Any:
        return one.contiguous(memory_format=torch.channels_last_3d) if isinstance(one, Tensor) and one.dim() == 5 else one

    return tuple(map(laid_out, result)) if isinstance(result, (tuple, list)) else laid_out(result)


def _is_innermost(x: Tensor) -> bool:
    return x.dim() == 5 and x.movedim(1, -1).is_contiguous()


def _kernel_sizes(network: nn.Module) -> frozenset[int]:
    sizes = set()
    for layer in network.modules():
        scales = layer.scales if isinstance(layer, ScaleConvolution) else 1
        for one in layer.parameters(recurse=False):
            each = one.numel() // max(1, one.shape[-1]) * 27
            sizes |= {one.numel(), each, scales * each}
    return frozenset(sizes)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _bytes(tensor: Tensor) -> int:
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def _bytes_of_values(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def on_gpu(module: nn.Module) -> nn.Module:
    """Replace the tensors of a module by fake ones of the GPU; inside a FakeTensorMode."""
    for part in module.modules():
        for name, one in part._parameters.items():
            if one is not None:
                part._parameters[name] = nn.Parameter(torch.empty_like(one, device="cuda"), one.requires_grad)
        for name, one in part._buffers.items():
            if one is not None:
                part._buffers[name] = torch.empty_like(one, device="cuda")
    return module


@dataclass(frozen=True)
class Case:
    """A planned network and its training step."""

    name: str
    network: NetworkConfig
    edge: int
    batch: int = 2
    tiles: int = 4


def cases() -> Iterator[Case]:
    """Yield both families of every size with patches that fill their GPU, and a smooth network of three scales."""
    for size, edge in EDGES.items():
        yield Case(f"{size} baseline", planned_network("baseline", size, edge), edge)
        for number in (1, 3) if size == "medium" else (1,):
            yield Case(f"{size} se, {number} scales", planned_network("se", size, edge, number), edge)


@dataclass(frozen=True)
class Counted:
    """What a network asks of a GPU."""

    case: Case
    step: Roofline  # a training step in bfloat16
    tiles: Roofline  # a forward pass in evaluation, in float16
    wide: dict[str, int]  # maps of at least 1 MiB in float32 in the network's part of the step, by operator and shape
    peaks: dict[str, int]  # bytes of a step in `bf16` and `float32`, and as the planner counts it (`planned`)

    @property
    def row(self) -> dict[str, Any]:
        """Row of the table: GiB, GB, multiply-adds in TFLOP (two operations each), milliseconds."""
        row: dict[str, Any] = {"network": self.case.name, "patch": self.case.edge, "batch": self.case.batch}
        row |= {f"{name}_gib": round(value / 2**30, 2) for name, value in self.peaks.items()}
        for name, roofline in (("step", self.step), ("tiles", self.tiles)):
            total = roofline.total
            row |= {f"{name}_launches": total.kernels, f"{name}_small": roofline.small}
            row |= {f"{name}_gb": round(total.bytes / 1e9, 1), f"{name}_tflop": round(total.operations / 1e12, 2)}
            row[f"{name}_ms"] = round(1e3 * total.seconds, 1)
        return row | {"float32_maps": sum(self.wide.values())}


def count(case: Case) -> Counted:
    """Count a training step and a batch of tiles of a network."""
    network, loss, shape = build_network(case.network), make_loss(DESCRIPTION, False), (case.edge,) * 3
    peaks = {"planned": training_bytes(case.network, shape, case.batch)}
    with FakeTensorMode(allow_non_fake_inputs=True):
        network, loss = on_gpu(network).train(), on_gpu(loss)
        image = torch.empty(case.batch, 1, *shape, device="cuda")
        labels = torch.empty(case.batch, *shape, dtype=torch.int16, device="cuda")

        def score(dtype: torch.dtype | None) -> Any:
            network.zero_grad(set_to_none=True)
            with in_precision(image.device, dtype):
                return network(image)

        def step(dtype: torch.dtype | None) -> None:
            loss(score(dtype), labels).backward()

        def without_loss() -> None:
            scores = score(torch.bfloat16)
            torch.autograd.backward(scores, [torch.empty_like(one) for one in scores])

        states = sum(map(_bytes, network.parameters()))  # of SGD with momentum
        held = [*network.parameters(), *network.buffers(), image, labels]
        for name, dtype in (("bf16", torch.bfloat16), ("float32", None)):
            step(dtype)  # from here on the matrices are kept
            network.zero_grad(set_to_none=True)
            peaks[name] = states + peak_bytes(partial(step, dtype), held)
        of_step, of_network = _counted(partial(step, torch.bfloat16)), _counted(without_loss, _kernel_sizes(network))
        network.eval()
        tiles = torch.empty(case.tiles, 1, *shape, device="cuda")

        def predict() -> None:
            with torch.no_grad(), torch.autocast("cuda", torch.float16):
                network(tiles)

        predict()
        return Counted(case, of_step, _counted(predict), dict(of_network.wide), peaks)


def _counted(action: Callable[[], object], kernel_sizes: frozenset[int] = frozenset()) -> Roofline:
    roofline = Roofline(kernel_sizes=kernel_sizes)
    with roofline:
        action()
    return roofline


def read_rows(state: str = "now") -> dict[str, dict[str, Any]]:
    """Return the rows of the table of one state of the code, by network."""
    table = pd.read_csv(ROOT / TABLE)
    return {str(row["network"]): row for row in table[table["state"] == state].to_dict("records")}


def main() -> None:
    """Count all networks, print the parts of each, and replace the rows of this state in the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", default="now", help="name of this state of the code in the table")
    given = parser.parse_args()
    rows = []
    for case in cases():
        found = count(case)
        rows.append({"state": given.state} | found.row)
        print(rows[-1])
        for name, one in sorted(found.step.kinds.items(), key=lambda pair: -pair[1].seconds)[:10]:
            print(f"    {name}: {one.kernels} launches, {one.bytes / 1e9:.1f} GB, {1e3 * one.seconds:.1f} ms", flush=True)
    kept = pd.read_csv(ROOT / TABLE) if (ROOT / TABLE).is_file() else pd.DataFrame({"state": []})
    table = pd.concat([kept[kept["state"] != given.state], pd.DataFrame(rows)]).sort_values("state", kind="stable")
    table.to_csv(ROOT / TABLE, index=False)


if __name__ == "__main__":
    torch.cuda.amp.common.amp_definitely_not_available = lambda: False
    torch.cuda.is_bf16_supported = lambda including_emulation=True: True
    main()
