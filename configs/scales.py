"""The scale group: which sizes a scale-equivariant network treats alike."""

from pydantic import Field

from configs.files import Value


class ScaleGroup(Value):
    """A truncated, sampled dilation group: scales `smallest_sigma * step**k`, k = 0 .. number - 1, ascending.

    Equivariance is approximate: the group is sampled in steps and cut off at both ends, where it is weakest.

    Attributes:
        smallest_sigma: width of the smallest Gaussian in mm, at the finest level of the network.
        step: ratio of neighbouring scales.
        number: how many scales; 1 is the smooth network without a group.
    """

    smallest_sigma: float = Field(gt=0)
    step: float = Field(default=2 ** (1 / 3), gt=1, le=4)
    number: int = Field(default=1, ge=1, le=16)

    @property
    def sigmas(self) -> tuple[float, ...]:
        """Widths in mm at the finest level, ascending."""
        return tuple(self.smallest_sigma * self.step**k for k in range(self.number))
