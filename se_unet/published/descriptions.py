"""Descriptions of published networks, to reproduce their results with `se_unet.build_network`."""

from collections.abc import Sequence

from configs.network import NetworkConfig, ScaleGroup


def wimmer2023(
    input_channels: int,
    output_channels: int,
    features: Sequence[int] = (4, 8, 16, 32),
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> NetworkConfig:
    """Return the scale-equivariant U-Net of "Scale Equivariant Deep Learning for 3D Data" (Wimmer et al., 2023).

    Its kernel widths are 1, 0.9, 0.81 and 0.729 voxel. The defaults are those of the BraTS experiment.
    """
    group = ScaleGroup(smallest_sigma=0.9**3 * min(spacing), step=1 / 0.9, number=4)
    return _published("wimmer2023", input_channels, output_channels, features, spacing, group)


def wimmer2023_baseline(
    input_channels: int,
    output_channels: int,
    features: Sequence[int] = (16, 32, 64, 128),
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> NetworkConfig:
    """Return the residual U-Net that is the baseline of that paper."""
    return _published("wimmer2023_baseline", input_channels, output_channels, features, spacing, None)


def _published(
    family: str,
    input_channels: int,
    output_channels: int,
    features: Sequence[int],
    spacing: tuple[float, float, float],
    group: ScaleGroup | None,
) -> NetworkConfig:
    """Return the common description: stride 2 at every level but the coarsest, kernels of 5 voxels, two residual units down, one up."""
    levels = len(features)
    return NetworkConfig.model_validate(
        {
            "family": family,
            "block": "residual",
            "input_channels": input_channels,
            "output_channels": output_channels,
            "features": tuple(features),
            "strides": ((2, 2, 2),) * (levels - 1) + ((1, 1, 1),),
            "kernels": ((5, 5, 5),) * levels,
            "encoder_blocks": (2,) * levels,
            "decoder_blocks": (1,) * (levels - 1),
            "spacing": spacing,
            "scale_group": group,
            "projection": "mean",
            "border": "zero",
            "basis_order": "tensor",
            "deep_supervision": False,
        }
    )
