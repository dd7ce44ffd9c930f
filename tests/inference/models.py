"""Small models for the tests of prediction."""

from pathlib import Path

import torch
from torch import Tensor, nn

from configs.dataset import DatasetDescription
from configs.network import NetworkConfig
from configs.plan import ChannelNormalisation, ConfigurationPlan, ModelPlan, NetworkPlan, Plan
from inference.model import Model
from se_unet.builder import build_network
from se_unet.weights import save_weights

LABELS = DatasetDescription(name="toy", channels=("MR",), labels={"background": 0, "grey": 3, "bright": 7})


def many_classes(number: int) -> DatasetDescription:
    """A dataset with that many classes, background included."""
    labels: dict[str, int | tuple[int, ...]] = {"background": 0}
    labels.update({f"organ_{value}": value for value in range(1, number)})
    return DatasetDescription(name="many", channels=("CT",), labels=labels)


class Thresholds(nn.Module):
    """Class 1 above 1 and class 2 above 2: a segmentation that is known beforehand."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([torch.full_like(x, 0.0), 20 * (x - 1), 20 * (2 * x - 3)], 1)


def plan(
    description: DatasetDescription = LABELS, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0), scheme: str = "none"
) -> Plan:
    """A plan of one small ordinary U-Net with patches of 16."""
    network = NetworkConfig(
        family="plain",
        input_channels=len(description.channels),
        output_channels=description.output_channels,
        features=(4, 8),
        strides=((1, 1, 1), (2, 2, 2)),
        kernels=((3, 3, 3), (3, 3, 3)),
        encoder_blocks=(1, 1),
        decoder_blocks=(1,),
    )
    normalisation = tuple(
        ChannelNormalisation.model_validate({"channel": name, "scheme": scheme}) for name in description.channels
    )
    networks = {"baseline": NetworkPlan(network=network, patch_size=(16, 16, 16), batch_size=2, mirror_axes=(2,))}
    configuration = ConfigurationPlan(spacing=spacing, median_shape=(20, 20, 20), normalisation=normalisation, networks=networks)
    return Plan(dataset=description, configurations={"3d_fullres": configuration})


def threshold_model(spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Model:
    """A model of `Thresholds`, on images that are not normalised."""
    return Model(ModelPlan(plan(spacing=spacing)), {"0": Thresholds()})


def write_model(folder: Path, folds: tuple[str, ...] = ("0", "1")) -> Path:
    """A model folder with untrained weights, a different seed for each fold."""
    written = plan(scheme="zscore")
    folder.mkdir(parents=True)
    written.write(folder / "plan.json")
    for seed, fold in enumerate(folds):
        torch.manual_seed(seed)
        (folder / f"fold_{fold}").mkdir()
        save_weights(
            build_network(written.network("3d_fullres", "baseline").network), folder / f"fold_{fold}/weights_final.safetensors"
        )
    return folder
