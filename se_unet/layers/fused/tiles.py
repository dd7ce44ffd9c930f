"""How the separable kernel divides a map into tiles, known without Triton."""

from collections.abc import Sequence
from math import prod

from se_unet.layers.grids import Band

ROWS, COLUMNS, CHANNELS = 16, 32, 16  # outputs and inputs of a tile along Y and X, and its channels
DEPTH = 64  # most outputs along Z for each program: fewer leave less of a GPU idle, more read fewer planes twice
WIDEST, FEWEST = 17, 6  # most outputs along Z that an input may touch, and fewest outputs of a tile along Y and X


def fits(bands: Sequence[Band]) -> bool:
    """Return whether the kernel can apply matrices of these bands along (Z, Y, X); wider ones would mostly read the same values again."""
    return touched(bands[0]) <= WIDEST and min(map(tile_outputs, bands[1:])) >= FEWEST


def touched(band: Band) -> int:
    """Return how many outputs an input touches at most."""
    return 2 * band.reach // band.out_step + 1


def tile_outputs(band: Band) -> int:
    """Return how many outputs along an axis a tile of `COLUMNS` inputs gives."""
    return min(ROWS, (COLUMNS * band.in_step - 1 - 2 * band.reach) // band.out_step + 1)


def chunks(depth: int) -> tuple[int, int]:
    """Return the number of parts of Z, and the outputs in each."""
    number = -(-depth // DEPTH)
    return number, -(-depth // number)


def multiply_adds(maps: int, inputs: Sequence[int], outputs: Sequence[int], channels: int, bands: Sequence[Band]) -> int:
    """Return the multiply-adds of the kernel on so many maps (Z, Y, X, C), including those on zeros and beyond the map."""
    tiles = prod(-(-size // tile_outputs(band)) for size, band in zip(outputs[1:], bands[1:], strict=True))
    parts, depth = chunks(outputs[0])
    planes = parts * min(inputs[0], (depth * bands[0].out_step + 2 * bands[0].reach) // bands[0].in_step + 1)
    plane = ROWS * COLUMNS * (COLUMNS + ROWS) + touched(bands[0]) * ROWS * ROWS
    return maps * tiles * planes * plane * CHANNELS * -(-channels // CHANNELS)
