"""The kernel functions of a layer on its device: computed anew from the plan wherever a network is built, never part of its weights."""

from collections.abc import Sequence

from torch import Tensor, nn

from se_unet.kernels import KernelFunctions


class FixedFunctions(nn.Module):
    """Buffers that move with a layer and are not saved.

    Args:
        functions: of every scale.
        profiles: per axis (S, K) taps of the order-0 function, or None where the axis has a single tap.
        scaling: factor of every function.
    """

    def __init__(self, functions: KernelFunctions, profiles: Sequence[Tensor | None], scaling: float):
        super().__init__()
        self.have_blurs = any(blur is not None for blur in functions.blurs)
        self.stencils: Tensor
        self.whole: Tensor
        self.register_buffer("stencils", (scaling * functions.stencils).float(), persistent=False)
        self.register_buffer("whole", (scaling * functions.dense).float(), persistent=False)
        self._keep("blur", functions.blurs)
        self._keep("profile", profiles)

    def blurs(self) -> list[Tensor | None]:
        """Per axis (S, T) taps; see `KernelFunctions`."""
        return self._kept("blur")

    def profiles(self) -> list[Tensor | None]:
        """Per axis (S, K)."""
        return self._kept("profile")

    def _keep(self, name: str, per_axis: Sequence[Tensor | None]) -> None:
        for axis, taps in zip("zyx", per_axis, strict=True):
            self.register_buffer(f"{name}_{axis}", None if taps is None else taps.float(), persistent=False)

    def _kept(self, name: str) -> list[Tensor | None]:
        return [self._buffers[f"{name}_{axis}"] for axis in "zyx"]
