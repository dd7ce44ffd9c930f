"""Scale-equivariant networks and layers for 3D images, usable alone on any tensor.

Images are (B, C, Z, Y, X); scale-feature maps are (B, C, S, Z, Y, X) with scales ascending.
"""

from se_unet.builder import build_network
from se_unet.layers.convolution import GroupConvolution, LiftingConvolution

__all__ = ["GroupConvolution", "LiftingConvolution", "build_network"]
