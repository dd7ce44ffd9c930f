"""Small networks to test."""

from configs.network import NetworkConfig, ScaleGroup

FAMILIES = ["plain", "se", "mixed", "pyramid"]


def config(
    family: str, features: tuple[int, ...] = (4, 8, 16), scales: int = 4, step: float = 2 ** (1 / 3), **changes: object
) -> NetworkConfig:
    stages = len(features)
    group = None if family == "plain" else ScaleGroup(smallest_sigma=0.8, step=step, number=1 if family == "mixed" else scales)
    settings: dict[str, object] = {
        "family": family, "input_channels": 1, "output_channels": 3, "features": features,
        "strides": ((1, 1, 1),) + ((2, 2, 2),) * (stages - 1), "kernels": ((3, 3, 3),) * stages,
        "encoder_blocks": (2,) * stages, "decoder_blocks": (2,) * (stages - 1), "scale_group": group,
    }  # fmt: skip
    return NetworkConfig.model_validate(settings | changes)


def smallest(family: str, **changes: object) -> NetworkConfig:
    """Two stages of one convolution each, two scales: all parts, and little of them."""
    settings: dict[str, object] = {"scales": 2, "encoder_blocks": (1, 1), "decoder_blocks": (1,)}
    return config(family, (3, 4), **settings | changes)  # type: ignore[arg-type]
