"""Triton compiles the kernels for real GPUs, which it can do on a machine without one."""

from typing import Any

import pytest

from se_unet.layers.fused import tiles
from se_unet.layers.grids import Band, band_of

triton = pytest.importorskip("triton", reason="Triton is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")]
BLUR, LOW_PASS = band_of(4, margin=1), band_of(6, stride=2)
INTERPOLATION = Band(1, 2, 0, 1)


def compiled(kernel: Any, capability: int, pointers: dict[str, str], constants: dict[str, Any]) -> bytes:
    """Machine code of a kernel whose arguments are pointers, floats, constants, and 32-bit integers."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kinds = {"eps": "fp32", "slope": "fp32"} | {name: f"*{kind}" for name, kind in pointers.items()}
    signature = {name: "constexpr" if name in constants else kinds.get(name, "i32") for name in kernel.arg_names}
    source = ASTSource(kernel, signature, constants)
    code: bytes = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 8}).asm["cubin"]
    return code


@pytest.mark.parametrize(
    ("capability", "band", "kind"),
    [(80, BLUR, "bf16"), (90, BLUR.transposed(), "fp16"), (90, LOW_PASS, "bf16"), (90, INTERPOLATION, "fp32")],
)
def test_the_separable_kernel(capability: int, band: Band, kind: str) -> None:
    from se_unet.layers.fused.separable_kernel import kernel

    pointers = dict.fromkeys(("rows", "result", "along_z", "along_y", "along_x"), kind)
    constants = {
        f"{axis}_{name}": value for axis in "ZYX" for name, value in zip(("OUT", "IN", "OFFSET", "REACH"), band, strict=True)
    }
    constants |= {"KEPT": tiles.touched(band), "TILE_Y": tiles.tile_outputs(band), "TILE_X": tiles.tile_outputs(band), "UNIT": 4}
    constants |= {"ROWS": tiles.ROWS, "COLUMNS": tiles.COLUMNS, "CHANNELS": tiles.CHANNELS}
    assert compiled(kernel, capability, pointers, constants).startswith(b"\x7fELF")


@pytest.mark.parametrize("name", ["sum_values", "normalise", "sum_gradients", "propagate"])
def test_the_kernels_of_the_norm(name: str) -> None:
    from se_unet.layers.fused import norm_kernel

    maps = dict.fromkeys(("samples", "result", "gradient"), "bf16")
    pointers = maps | dict.fromkeys(("weight", "bias", "sums", "statistics", "totals"), "fp32")
    constants = {"ROWS": 128, "COLUMNS": 32, "PARTS": 256}
    assert compiled(getattr(norm_kernel, name), 90, pointers, constants).startswith(b"\x7fELF")


@pytest.mark.parametrize("scales", [3, 4])
@pytest.mark.parametrize("name", ["multiply", "sum_products"])
def test_the_kernels_of_mixing(name: str, scales: int) -> None:
    from se_unet.layers.fused import mixing_kernel

    pointers = {"rows": "bf16", "result": "bf16", "gradient": "bf16", "matrix": "fp32", "sums": "fp32"}
    constants = {"SCALES": scales, "ROWS": 32, "COLUMNS": 32}
    assert compiled(getattr(mixing_kernel, name), 90, pointers, constants).startswith(b"\x7fELF")


@pytest.mark.parametrize(("name", "kind"), [("sum_terms", "fp16"), ("propagate", "bf16")])
def test_the_kernels_of_class_sums(name: str, kind: str) -> None:
    from se_unet.layers.fused import class_sums_kernel

    pointers = {"rows": kind, "result": kind, "labels": "i16", "sums": "fp32", "gradient": "fp32"}
    constants = {"ROWS": 512, "COLUMNS": 4}
    assert compiled(getattr(class_sums_kernel, name), 90, pointers, constants).startswith(b"\x7fELF")
