"""Scale-equivariant networks and layers for 3D images, usable alone on any tensor.

Images are (B, C, Z, Y, X); scale-feature maps are (B, C, S, Z, Y, X) with scales ascending.
"""

from se_unet.builder import build_network
from se_unet.cost import activation_bytes, multiply_adds
from se_unet.equivariance import PlaneWaves, assert_equivariant, equivariance_error
from se_unet.export import export_onnx, merged_copy
from se_unet.layers.basis import fitted_factors, fitted_taps, function_orders
from se_unet.layers.convolution import GroupConvolution, LiftingConvolution
from se_unet.layers.head import ScaleHead, project
from se_unet.layers.instance_norm import InstanceNorm
from se_unet.layers.kernels import KernelFunctions, kernel_functions
from se_unet.layers.mixed import MixedConvolution
from se_unet.layers.pointwise import PointwiseConvolution, ScaleMixing
from se_unet.layers.sampling import InterpolateUp, LowPassDown, lowpass_widths
from se_unet.nnunet.checkpoint import NNUNetCheckpoint, read_nnunet_checkpoint
from se_unet.published.descriptions import wimmer2023, wimmer2023_baseline
from se_unet.published.dropout import ScaleEquivariantDropout
from se_unet.published.norm import ScaleBatchNorm, ScaleInstanceNorm
from se_unet.published.reference_layers import ReferenceGroupConvolution, ReferenceLifting, ReferencePointwise
from se_unet.published.sampled_basis import SampledBasis
from se_unet.published.wimmer2023 import Wimmer2023, Wimmer2023Settings, load_reference_checkpoint
from se_unet.published.wimmer2023_baseline import Wimmer2023Baseline, Wimmer2023BaselineSettings
from se_unet.pyramid import Pyramid
from se_unet.unet import UNet
from se_unet.weights import load_weights, save_weights

__all__ = [
    "GroupConvolution",
    "InstanceNorm",
    "InterpolateUp",
    "KernelFunctions",
    "LiftingConvolution",
    "LowPassDown",
    "MixedConvolution",
    "NNUNetCheckpoint",
    "PlaneWaves",
    "PointwiseConvolution",
    "Pyramid",
    "ReferenceGroupConvolution",
    "ReferenceLifting",
    "ReferencePointwise",
    "SampledBasis",
    "ScaleBatchNorm",
    "ScaleEquivariantDropout",
    "ScaleHead",
    "ScaleInstanceNorm",
    "ScaleMixing",
    "UNet",
    "Wimmer2023",
    "Wimmer2023Baseline",
    "Wimmer2023BaselineSettings",
    "Wimmer2023Settings",
    "activation_bytes",
    "assert_equivariant",
    "build_network",
    "equivariance_error",
    "export_onnx",
    "fitted_factors",
    "fitted_taps",
    "function_orders",
    "kernel_functions",
    "load_reference_checkpoint",
    "load_weights",
    "lowpass_widths",
    "merged_copy",
    "multiply_adds",
    "project",
    "read_nnunet_checkpoint",
    "save_weights",
    "wimmer2023",
    "wimmer2023_baseline",
]
